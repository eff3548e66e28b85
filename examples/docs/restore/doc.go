// Package restore tries what docs/inbox.md says of backups.
package restore
