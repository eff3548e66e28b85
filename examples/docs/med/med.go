// Package med is the code of docs/med.md.
package med

import "github.com/pixmed-go/pixmed"

// advise says what a merchant does when a notification comes.
func advise(n *pixmed.Notification) string {
	switch {
	case n.MaybeReopened():
		return "block again, and look the case up: it may be open again"
	case n.MEDStatus == pixmed.Acknowledged && n.Previous.Final():
		return "look the case up: this one is late, the case has ended"
	case n.MEDStatus == pixmed.Acknowledged:
		return "block, and gather evidence"
	case n.MEDStatus == pixmed.Cancelled && n.Previous == pixmed.Debited:
		return "look the case up: a debit was taken back, or this one is late"
	case n.MEDStatus == pixmed.Cancelled:
		return "confirm it at the gateway, then release"
	case n.MEDStatus == pixmed.Debited:
		return "write off"
	default:
		return "look the case up: a status that is not documented"
	}
}
