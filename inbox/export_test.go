package inbox

// Interrupt ends the contexts of the callbacks, as Stop does when it runs out of
// time.
func (in *Inbox) Interrupt() { in.interruptIt() }
