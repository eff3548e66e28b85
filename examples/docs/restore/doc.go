// Package restore tests what docs/inbox.md says about backups.
package restore
