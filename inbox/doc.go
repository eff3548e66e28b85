// Package inbox is a durable inbox for infraction webhooks.
package inbox
