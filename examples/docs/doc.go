// Package docs holds the programs whose code the pages in docs show.
package docs
