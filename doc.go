// Package pixmed receives the infraction (MED) webhooks of a Brazilian Pix
// payment gateway and fetches transaction receipts.
package pixmed
