package ledger_test

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// The model explores everything that may happen to one case: two processes, N
// events that are accepted in order, reminders, attempts that fail up to M times.
//
// An operation that locks the row first and reads after it is one step: whoever
// else wants the row waits, and a claim skips it. Mutations that read before the
// lock have two. Every commit may be answered, or its answer may be lost, with or
// without effect. A process may be killed between any two steps, and an attempt may
// outlive its lease in any phase. How often each of these happens is bounded.

// mutations are faults in the protocol, each with what must go wrong.
var mutations = map[string]struct{ fault, want string }{
	"nofence":      {"settle looks at the event alone, not at the lease", "SETTLED TWICE"},
	"noheld":       {"settle compares the lease and does not look at held", "SETTLED TWICE"},
	"txnofence":    {"a callback's transaction commits without looking at the lease", "EFFECT TWICE"},
	"readsettle":   {"settle reads what is pending next before the lock", "STUCK"},
	"readclaim":    {"a claim reads the lowest pending event before the lock", "BEGUN THOUGH IT IS NOT PENDING"},
	"norecheck":    {"a claim does not look at run_at again after the lock", "OVERLAP"},
	"norun":        {"accept does not set run_at", "STUCK"},
	"acceptrun":    {"accept sets run_at to now although the case is held", "OVERLAP"},
	"replayrun":    {"replay sets run_at to now although the case is held", "OVERLAP"},
	"noknown":      {"accept does not look its id up when it is tried again", "STORED TWICE"},
	"noexpiry":     {"what is held is never claimed again", "DEADLOCK"},
	"bound":        {"a retry is bound to the event that failed", "A NEWER EVENT RUNS BEFORE AN OLDER ONE"},
	"relany":       {"after a claim whose answer was lost whatever is held is released", "OVERLAP"},
	"settleheld":   {"settle sets run_at and leaves the case held", "SETTLED TWICE"},
	"earlyeff":     {"an effect commits before its settlement, in a transaction of its own", "EFFECT TWICE"},
	"remindrun":    {"accept looks at run_at, which a reminder may have set", "STUCK"},
	"remindhead":   {"a claim of a reminder's lease that has run out settles the lowest pending event", "CHARGED WITH AN ATTEMPT THAT IT NEVER HAD"},
	"remindfence":  {"a reminder settles without looking at the lease", "OVERLAP"},
	"remindforgot": {"settle makes the case idle when nothing is pending, whether a reminder is planned or not", "A REMINDER IS FORGOTTEN"},
	"remindheld":   {"the time of a reminder makes a case due that is held", "OVERLAP"},
	"reminddelay":  {"the retry of a reminder delays what is pending", "AN EVENT WAITS FOR A REMINDER"},
	"remindafter":  {"a reminder that is settled plans the next one although the case was answered meanwhile", "REMINDED THOUGH IT IS ANSWERED"},
	"reminddone":   {"a reminder whose process was killed is not planned again", "A REMINDER IS FORGOTTEN"},
	"headlost":     {"a claim of a lease that has run out settles the lowest pending event, not the one that was leased", "CHARGED WITH AN ATTEMPT THAT IT NEVER HAD"},
}

const modelEvents = 3 // at most

// theReminder stands for an event where the reminder is meant.
const theReminder = modelEvents

// What a case's run_at says, and whether it is held, as in the package's doc; and
// what event_at and remind_at say.
const (
	runNever  = 'N'
	runPast   = 'R'
	runFuture = 'W' // for a retry
	runLease  = 'L'
)

// Phases of an attempt.
const (
	claimed  = 'c' // and not begun
	running  = 'r' // its callback
	doneTx   = 't' // settles in its callback's transaction, with an effect
	doneTo   = 'd' // settles as done
	failedTo = 'f' // settles as failed
	lostTo   = 'l' // settles the one before it, whose lease ran out, as failed
	released = 'x' // gives back what it has not begun
)

// modelState is a state of everything.
type modelState struct {
	events   [modelEvents]byte // n: to be accepted; p: pending, d: done, x: dead
	failures [modelEvents]int8
	next     int8 // the event that is accepted next
	unsure   bool // the answer to the last accept was lost

	event  byte // event_at
	remind byte // remind_at
	run    byte
	held   bool
	leased int8 // the event that is leased; the model always knows, the row may not
	lease  int8
	bound  int8 // the event that a retry is bound to, -1 for none; a mutation's

	attempts []modelAttempt
	suspects []suspect
	effects  string // the events whose effects were committed, in order
	settled  []int8 // leases that were

	reminders      int8 // that are planned, done ones among them
	reminded       int8 // how many are done or given up
	givenUp        int8
	remindFailures int8
	answered       bool
	mayAnswer      bool

	replayed                         uint8 // a bit for each event
	expiries, kills, losses, replays int8  // that are left
}

type modelAttempt struct {
	process, lease, event int8
	number                int8 // of the reminder
	phase                 byte
	expired               bool
	read                  string // what was pending before the lock; a mutation's
	reads                 byte   // and the phase that it was read for
}

// suspect is a claim whose answer was lost or, with an event, one that has read and
// not locked; that is a mutation's.
type suspect struct{ process, lease, event int8 }

func (s *modelState) pending() (p []int8) {
	for i, e := range s.events {
		if e == 'p' {
			p = append(p, int8(i))
		}
	}
	return p
}

// plan sets when the case may be claimed, unless it is held.
func (s *modelState) plan() {
	switch {
	case s.held:
	case s.event == runPast || s.remind == runPast:
		s.run = runPast
	case s.event == runFuture || s.remind == runFuture:
		s.run = runFuture
	default:
		s.run = runNever
	}
}

func (s *modelState) clone() *modelState {
	c := *s
	c.attempts, c.suspects, c.settled = slices.Clone(s.attempts), slices.Clone(s.suspects), slices.Clone(s.settled)
	return &c
}

// canonical gives states that differ in names alone the same ones: leases matter by
// being equal only, and the two processes are alike.
func (s *modelState) canonical() string {
	names := map[int8]int8{}
	used := []int8{s.lease}
	for _, a := range s.attempts {
		used = append(used, a.lease)
	}
	for _, x := range s.suspects {
		used = append(used, x.lease)
	}
	slices.Sort(used)
	for _, l := range slices.Compact(used) {
		if l >= 0 {
			names[l] = int8(len(names))
		}
	}
	rename := func(l int8) int8 {
		if l < 0 {
			return l
		}
		return names[l]
	}
	s.lease = rename(s.lease)
	s.settled = slices.DeleteFunc(s.settled, func(l int8) bool { _, ok := names[l]; return !ok })
	for i := range s.settled {
		s.settled[i] = names[s.settled[i]]
	}
	slices.Sort(s.settled)
	var best string
	var attempts []modelAttempt
	var suspects []suspect
	for flip := range int8(2) {
		as, xs := slices.Clone(s.attempts), slices.Clone(s.suspects)
		for i := range as {
			as[i].process ^= flip
			as[i].lease = rename(as[i].lease)
		}
		for i := range xs {
			xs[i].process ^= flip
			xs[i].lease = rename(xs[i].lease)
		}
		slices.SortFunc(as, func(a, b modelAttempt) int { return cmp.Compare(a.key(), b.key()) })
		slices.SortFunc(xs, func(a, b suspect) int {
			return cmp.Or(cmp.Compare(a.process, b.process), cmp.Compare(a.lease, b.lease), cmp.Compare(a.event, b.event))
		})
		xs = slices.Compact(xs)
		if key := modelKey(as, xs); flip == 0 || key < best {
			best, attempts, suspects = key, as, xs
		}
	}
	s.attempts, s.suspects = attempts, suspects
	var b strings.Builder
	b.Write(s.events[:])
	for _, n := range []int8{s.failures[0], s.failures[1], s.failures[2], s.next, bit(s.unsure), bit(s.held), s.leased, s.lease, s.bound, s.reminders, s.reminded, s.givenUp, s.remindFailures, bit(s.answered), bit(s.mayAnswer), int8(s.replayed), s.expiries, s.kills, s.losses, s.replays} {
		b.WriteByte(byte(n + 32))
	}
	b.Write([]byte{s.run, s.event, s.remind})
	b.WriteString(s.effects + "|" + string(fmt.Append(nil, s.settled)) + best)
	return b.String()
}

func bit(b bool) int8 {
	if b {
		return 1
	}
	return 0
}

func (a modelAttempt) key() string {
	return string([]byte{byte(a.number + 32), byte(a.process + 32), byte(a.lease + 32), byte(a.event + 32), a.phase, byte(bit(a.expired) + 32), a.reads + 1}) + a.read + ";"
}

func modelKey(as []modelAttempt, xs []suspect) string {
	var b strings.Builder
	for _, a := range as {
		b.WriteString(a.key())
	}
	b.WriteByte('|')
	for _, x := range xs {
		b.Write([]byte{byte(x.process + 32), byte(x.lease + 32), byte(x.event + 32)})
	}
	return b.String()
}

// explorer explores the states.
type explorer struct {
	mutation    string
	events      int8
	maxFailures int8
	stop        bool // at the first violation

	states map[string]*visited
	queue  []*visited
	wrong  map[string]*visited // the first state of each violation

	at    *visited // the state that is being explored
	moves int
}

type visited struct {
	state *modelState
	from  *visited
	step  string
	to    []*visited
}

// trace is how a state is reached.
func (v *visited) trace() (steps []string) {
	for ; v.from != nil; v = v.from {
		steps = append(steps, v.step)
	}
	slices.Reverse(steps)
	return steps
}

func (x *explorer) violation(what string) {
	if x.wrong[what] == nil {
		x.wrong[what] = x.at
	}
}

// goTo takes a step to a state.
func (x *explorer) goTo(step string, s *modelState) {
	for i, l := range s.settled {
		if slices.Contains(s.settled[:i], l) {
			x.violation("SETTLED TWICE")
		}
	}
	key := s.canonical()
	v := x.states[key]
	if v == nil {
		v = &visited{state: s, from: x.at, step: step}
		x.states[key] = v
		x.queue = append(x.queue, v)
	}
	x.at.to = append(x.at.to, v)
	x.moves++
}

func (x *explorer) explore(start *modelState) {
	x.states, x.wrong = make(map[string]*visited), make(map[string]*visited)
	x.at = new(visited)
	x.goTo("", start)
	for len(x.queue) > 0 && (!x.stop || len(x.wrong) == 0) {
		x.at, x.queue = x.queue[0], x.queue[1:]
		if x.at.from.state == nil {
			x.at.from = nil
		}
		x.moves = 0
		x.check()
		if x.at.state.next > x.events {
			x.violation("STORED TWICE")
			continue
		}
		x.accept()
		x.time()
		x.claim()
		x.kill()
		x.replay()
		x.answer()
		for i := range x.at.state.attempts {
			x.attempt(i)
		}
		if x.moves == 0 && len(x.at.state.pending()) > 0 {
			x.violation("DEADLOCK")
		}
	}
	if !x.stop || len(x.wrong) == 0 {
		x.checkProgress()
	}
}

// check looks at what must hold in every state.
func (x *explorer) check() {
	s := x.at.state
	live := 0
	for _, a := range s.attempts {
		if (a.phase == claimed || a.phase == running) && !a.expired {
			live++
		}
	}
	if live > 1 {
		x.violation("OVERLAP")
	}
	var inOrder []byte
	for i := range len(s.effects) {
		if strings.IndexByte(s.effects, s.effects[i]) != i {
			x.violation("EFFECT TWICE")
		}
		if s.effects[i] < '0'+theReminder && s.replayed>>(s.effects[i]-'0')&1 == 0 {
			inOrder = append(inOrder, s.effects[i])
		}
	}
	if !slices.IsSorted(inOrder) {
		x.violation("EFFECTS OUT OF ORDER")
	}
	switch p := s.pending(); {
	case len(p) > 0 && s.event == runNever:
		x.violation("STUCK")
	case !s.held && s.event == runPast && s.run != runPast:
		x.violation("AN EVENT WAITS FOR A REMINDER")
	case !s.held && s.remind != runNever && s.run == runNever, !s.answered && s.remind == runNever && s.reminded < s.reminders:
		x.violation("A REMINDER IS FORGOTTEN")
	case len(p) == 0 && s.event != runNever && !slices.ContainsFunc(s.attempts, func(a modelAttempt) bool { return a.reads != 0 }):
		x.violation("DUE WITH NOTHING PENDING")
	}
}

func (x *explorer) accept() {
	s := x.at.state
	if s.next >= x.events && !s.unsure {
		return
	}
	c := s.clone()
	c.unsure = false
	switch {
	case s.unsure && x.mutation == "noknown":
		c.next = x.events + 1
		x.goTo("accept again: stored twice", c)
	case s.unsure:
		x.goTo("accept again: known", c)
	default:
		c.events[s.next] = 'p'
		c.next++
		switch {
		case x.mutation == "norun", x.mutation == "remindrun" && s.run != runNever:
		case x.mutation == "acceptrun":
			c.event, c.run = runPast, runPast
		case s.event == runNever:
			c.event = runPast
			c.plan()
		}
		x.goTo(fmt.Sprintf("accept e%d", s.next), c)
		if s.losses > 0 { // with effect; without one it is just tried again
			c = c.clone()
			c.unsure = true
			c.losses--
			x.goTo(fmt.Sprintf("accept e%d, answer lost", s.next), c)
		}
	}
}

func (x *explorer) time() {
	s := x.at.state
	if s.event == runFuture {
		c := s.clone()
		c.event = runPast
		c.plan()
		x.goTo("a retry is due", c)
	}
	if s.remind == runFuture {
		c := s.clone()
		c.remind = runPast
		c.plan()
		if x.mutation == "remindheld" {
			c.run = runPast
		}
		x.goTo("a reminder is due", c)
	}
	if s.run == runLease {
		current := slices.ContainsFunc(s.attempts, func(a modelAttempt) bool { return a.lease == s.lease })
		if current && s.expiries == 0 {
			return
		}
		c := s.clone()
		c.run = runPast
		c.expiries -= bit(current)
		for i, a := range c.attempts {
			c.attempts[i].expired = a.expired || a.lease == s.lease
		}
		x.goTo("the lease runs out", c)
	}
}

func (x *explorer) claim() {
	s := x.at.state
	pending := s.pending()
	can := s.run == runPast && (x.mutation != "noexpiry" || !s.held)
	for r := range int8(2) {
		x.claimBy(r, can, pending)
		for i, q := range s.suspects {
			if q.process != r || q.event >= 0 {
				continue
			}
			c := s.clone()
			c.suspects = slices.Delete(c.suspects, i, i+1)
			switch {
			case s.held && s.run == runLease && (s.lease == q.lease || x.mutation == "relany"):
				c.held, c.leased = false, -1
				c.plan()
				x.goTo(fmt.Sprintf("release r%d", r), c)
			case s.lease != q.lease || !s.held:
				x.goTo(fmt.Sprintf("forget r%d", r), c)
			}
		}
	}
}

// claimBy has a process claim. Mutations read before they lock.
func (x *explorer) claimBy(r int8, can bool, pending []int8) {
	s := x.at.state
	if x.mutation != "readclaim" && x.mutation != "norecheck" {
		event := int8(theReminder)
		if len(pending) > 0 && (s.event == runPast || s.held && s.leased != theReminder || s.remind != runPast) {
			event = pending[0]
		}
		if can && (event != theReminder || s.held || s.remind == runPast) {
			x.claimEvent(r, s, event)
		}
		return
	}
	read := slices.IndexFunc(s.suspects, func(q suspect) bool { return q.process == r && q.event >= 0 })
	if read < 0 {
		if can && len(pending) > 0 {
			c := s.clone()
			c.suspects = append(c.suspects, suspect{r, -1, pending[0]})
			x.goTo(fmt.Sprintf("claim reads r%d", r), c)
		}
		return
	}
	c := s.clone()
	event := c.suspects[read].event
	c.suspects = slices.Delete(c.suspects, read, read+1)
	switch {
	case x.mutation == "readclaim" && can:
		x.claimEvent(r, c, event)
	case x.mutation == "norecheck" && len(pending) > 0:
		x.claimEvent(r, c, pending[0])
	default:
		x.goTo(fmt.Sprintf("claim finds nothing r%d", r), c)
	}
}

func (x *explorer) claimEvent(r int8, s *modelState, event int8) {
	phase := byte(claimed)
	if s.held { // the lease before ran out
		phase = lostTo
		switch pending := s.pending(); {
		case x.mutation == "headlost", s.leased < 0:
		case x.mutation == "remindhead" && s.leased == theReminder && len(pending) > 0:
			event = pending[0]
		default:
			event = s.leased
		}
		if event != s.leased {
			x.violation("CHARGED WITH AN ATTEMPT THAT IT NEVER HAD")
		}
	} else if pending := s.pending(); x.mutation == "bound" && s.bound >= 0 && slices.Contains(pending, s.bound) {
		if event = s.bound; event != pending[0] {
			x.violation("A NEWER EVENT RUNS BEFORE AN OLDER ONE")
		}
	}
	if event == theReminder && s.answered && !s.held {
		x.violation("REMINDED THOUGH IT IS ANSWERED")
	}
	c := s.clone()
	c.lease = s.newLease()
	c.held, c.leased, c.run, c.bound = true, event, runLease, -1
	lost := c.clone()
	c.attempts = append(c.attempts, modelAttempt{process: r, lease: c.lease, event: event, number: c.reminded, phase: phase})
	x.goTo(fmt.Sprintf("claim r%d e%d", r, event), c)
	if s.losses > 0 {
		lost.suspects = append(lost.suspects, suspect{r, lost.lease, -1})
		lost.losses--
		x.goTo(fmt.Sprintf("claim r%d e%d, answer lost", r, event), lost)
		without := s.clone() // to release what is not there does nothing
		without.losses--
		x.goTo(fmt.Sprintf("claim r%d, not committed", r), without)
	}
}

// newLease returns a number that nobody has.
func (s *modelState) newLease() int8 {
	highest := s.lease
	for _, a := range s.attempts {
		highest = max(highest, a.lease)
	}
	for _, q := range s.suspects {
		highest = max(highest, q.lease)
	}
	for _, l := range s.settled {
		highest = max(highest, l)
	}
	return highest + 1
}

func (x *explorer) kill() {
	s := x.at.state
	for r := range int8(2) {
		c := s.clone()
		c.attempts = slices.DeleteFunc(c.attempts, func(a modelAttempt) bool { return a.process == r })
		c.suspects = slices.DeleteFunc(c.suspects, func(q suspect) bool { return q.process == r })
		if s.kills > 0 && len(c.attempts)+len(c.suspects) < len(s.attempts)+len(s.suspects) {
			c.kills--
			x.goTo(fmt.Sprintf("kill r%d", r), c)
		}
	}
}

func (x *explorer) replay() {
	s := x.at.state
	for i, e := range s.events {
		if e != 'x' || s.replays == 0 {
			continue
		}
		c := s.clone()
		c.events[i], c.failures[i] = 'p', 0
		c.replays--
		c.replayed |= 1 << i
		switch {
		case x.mutation == "replayrun":
			c.event, c.run = runPast, runPast
		case (!s.held || s.leased == theReminder) && int(c.pending()[0]) == i:
			c.event = runPast
			c.plan()
		}
		x.goTo(fmt.Sprintf("replay e%d", i), c)
	}
}

func (x *explorer) answer() {
	s := x.at.state
	if !s.mayAnswer {
		return
	}
	c := s.clone()
	c.mayAnswer, c.answered, c.remind = false, true, runNever
	c.plan()
	x.goTo("answer", c)
}

// attempt takes an attempt on.
func (x *explorer) attempt(i int) {
	s := x.at.state
	a := s.attempts[i]
	who := fmt.Sprintf("r%d e%d", a.process, a.event)
	to := func(phase byte) *modelState {
		c := s.clone()
		c.attempts[i].phase = phase
		return c
	}
	switch a.phase {
	case claimed:
		if a.expired {
			x.goTo("held up, not begun "+who, to(released))
			return
		}
		if a.event != theReminder && s.events[a.event] != 'p' {
			x.violation("BEGUN THOUGH IT IS NOT PENDING")
		}
		x.goTo("begin "+who, to(running))
	case running:
		x.goTo("the callback fails "+who, to(failedTo))
		x.goTo("the callback is done "+who, to(doneTo))
		x.settle(i, doneTx)
	default:
		x.settle(i, a.phase)
	}
}

// settle ends an attempt.
func (x *explorer) settle(i int, how byte) {
	s := x.at.state
	a := s.attempts[i]
	who := fmt.Sprintf("%c r%d e%d", how, a.process, a.event)
	if a.event == theReminder {
		x.settleReminder(i, how)
		return
	}
	isPending := s.events[a.event] == 'p'
	counts := s.lease == a.lease && s.held && isPending
	switch x.mutation {
	case "nofence":
		counts = isPending
	case "noheld":
		counts = s.lease == a.lease && isPending
	}
	ended := s.clone()
	ended.attempts = slices.Delete(ended.attempts, i, i+1)
	if how == doneTx && ((x.mutation == "txnofence" && !counts) || x.mutation == "earlyeff") {
		c := ended
		if x.mutation == "earlyeff" {
			c = s.clone()
			c.attempts[i].phase = doneTo
		}
		c.effects += string(rune('0' + a.event))
		x.goTo("the effect alone "+who, c)
		return
	}
	pending := s.pending()
	if x.mutation == "readsettle" && how != released {
		if a.reads == 0 {
			c := s.clone()
			c.attempts[i].reads = how
			for _, p := range pending {
				c.attempts[i].read += string(rune('0' + p))
			}
			x.goTo("settle reads "+who, c)
			return
		}
		if a.reads != how {
			return
		}
		pending = nil
		for _, p := range a.read {
			pending = append(pending, int8(p-'0'))
		}
	}
	if !counts {
		x.goTo("late "+who, ended)
		return
	}
	c := ended
	switch how {
	case doneTx, doneTo:
		c.events[a.event] = 'd'
		if how == doneTx {
			c.effects += string(rune('0' + a.event))
		}
	case failedTo, lostTo:
		if c.failures[a.event]++; c.failures[a.event] >= x.maxFailures {
			c.events[a.event] = 'x'
		}
	}
	c.bound = -1
	if how == failedTo && c.events[a.event] == 'p' {
		c.bound = a.event
	}
	pending = slices.DeleteFunc(slices.Clone(pending), func(p int8) bool { return c.events[p] != 'p' })
	switch {
	case len(pending) == 0:
		c.event = runNever
	case how == failedTo && (pending[0] == a.event || (x.mutation == "bound" && c.bound >= 0)):
		c.event = runFuture
	default:
		c.event = runPast
	}
	c.held = false
	c.plan()
	if x.mutation == "remindforgot" && c.event == runNever {
		c.run = runNever
	}
	if c.held = x.mutation == "settleheld"; !c.held {
		c.leased = -1
	}
	if how != released {
		c.settled = append(c.settled, a.lease)
	}
	x.settled(i, how, who, c)
}

// settled goes on from a settlement, with its answer and without.
func (x *explorer) settled(i int, how byte, who string, c *modelState) {
	s := x.at.state
	a := s.attempts[i]
	x.goTo("settle "+who, c)
	if s.losses == 0 {
		return
	}
	// After the lost answer of a callback's transaction the attempt counts as failed;
	// the committer tries the same once more.
	again := a
	again.reads, again.read = 0, ""
	if how == doneTx {
		again.phase = failedTo
	}
	with := c.clone()
	with.attempts = append(with.attempts, again)
	with.losses--
	x.goTo("settle "+who+", answer lost", with)
	without := s.clone()
	without.attempts[i] = again
	without.losses--
	x.goTo("settle "+who+", not committed", without)
}

// settleReminder ends an attempt at a reminder.
func (x *explorer) settleReminder(i int, how byte) {
	s := x.at.state
	a := s.attempts[i]
	who := fmt.Sprintf("%c r%d, reminder %d", how, a.process, a.number)
	c := s.clone()
	c.attempts = slices.Delete(c.attempts, i, i+1)
	if x.mutation != "remindfence" && (s.lease != a.lease || !s.held || s.leased != theReminder) {
		x.goTo("late "+who, c)
		return
	}
	c.held, c.leased = false, -1
	if s.answered && x.mutation != "remindafter" {
		if how == doneTx {
			c.effects += string(rune('0' + theReminder + a.number))
		}
		c.plan()
		x.settled(i, how, who, c)
		return
	}
	next := func() {
		if c.reminded, c.remindFailures, c.remind = c.reminded+1, 0, runNever; c.reminded < c.reminders {
			c.remind = runFuture
		}
	}
	switch {
	case how == doneTx:
		c.effects += string(rune('0' + theReminder + a.number))
		next()
	case how == doneTo:
		next()
	case how == lostTo && x.mutation == "reminddone":
		c.remind = runNever
	case how == failedTo || how == lostTo:
		if c.remindFailures++; c.remindFailures >= x.maxFailures {
			c.givenUp++
			next()
		} else {
			c.remind = runFuture
		}
	}
	c.plan()
	if x.mutation == "reminddelay" && c.remind == runFuture {
		c.run = runFuture
	}
	if how != released {
		c.settled = append(c.settled, a.lease)
	}
	x.settled(i, how, who, c)
}

// checkProgress looks for states from which what is pending cannot be finished
// without a fault or a replay on the way.
func (x *explorer) checkProgress() {
	budget := func(s *modelState) [4]int8 { return [4]int8{s.expiries, s.kills, s.losses, s.replays} }
	back := make(map[*visited][]*visited)
	var queue []*visited
	ok := make(map[*visited]bool)
	for _, v := range x.states {
		for _, to := range v.to {
			if budget(v.state) == budget(to.state) {
				back[to] = append(back[to], v)
			}
		}
		if !strings.ContainsAny(string(v.state.events[:x.events]), "pn") && v.state.remind == runNever {
			queue = append(queue, v)
			ok[v] = true
		}
	}
	for len(queue) > 0 {
		v := queue[0]
		queue = queue[1:]
		for _, from := range back[v] {
			if !ok[from] {
				ok[from] = true
				queue = append(queue, from)
			}
		}
	}
	for _, v := range x.states {
		if !ok[v] && v.to != nil && v.state.next <= x.events {
			x.at = v
			x.violation("NO WAY")
			return
		}
	}
}

func newModel(kills, losses, replays int8) *modelState {
	return &modelState{
		events: [modelEvents]byte{'n', 'n', 'n'}, run: runNever, event: runNever, remind: runNever, leased: -1, bound: -1,
		expiries: 1, kills: kills, losses: losses, replays: replays,
	}
}

// withReminders adds reminders, and perhaps an answer.
func (s *modelState) withReminders(n int8, mayAnswer bool) *modelState {
	s.reminders, s.mayAnswer, s.remind = n, mayAnswer, runFuture
	s.plan()
	return s
}

// TestModel explores the protocol, which must hold.
func TestModel(t *testing.T) {
	t.Parallel()
	configurations := map[string]struct {
		events, maxFailures int8
		start               *modelState
	}{
		"replay":                               {2, 2, newModel(1, 0, 1)},
		"reminders":                            {1, 2, newModel(1, 0, 0).withReminders(2, true)},
		"a reminder and answers that are lost": {1, 2, newModel(0, 1, 0).withReminders(1, true)},
		"a reminder and a replay":              {1, 1, newModel(0, 0, 1).withReminders(1, false)},
		"answers":                              {2, 2, newModel(0, 1, 0)},
	}
	if !testing.Short() {
		type configuration = struct {
			events, maxFailures int8
			start               *modelState
		}
		configurations["everything"] = configuration{2, 2, newModel(1, 1, 1)}
		configurations["everything with a reminder"] = configuration{2, 1, newModel(1, 1, 0).withReminders(1, true)}
	}
	for name, c := range configurations {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := &explorer{events: c.events, maxFailures: c.maxFailures}
			x.explore(c.start)
			t.Logf("%d states", len(x.states))
			if len(x.states) < 1000 {
				t.Error("these are too few")
			}
			for what, v := range x.wrong {
				t.Errorf("%s: %s", what, strings.Join(v.trace(), " > "))
			}
		})
	}
}

// TestModelMutations has one fault in the protocol at a time, which the model must
// find.
func TestModelMutations(t *testing.T) {
	t.Parallel()
	for name, m := range mutations {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			replays := int8(0)
			maxFailures := int8(2)
			if name == "bound" || name == "replayrun" || name == "headlost" {
				replays = 1
			}
			if name == "headlost" {
				maxFailures = 1
			}
			x := &explorer{mutation: name, events: 2, maxFailures: maxFailures, stop: true}
			start := newModel(1, 1, replays)
			if strings.HasPrefix(name, "remind") {
				start = newModel(1, 0, 0).withReminders(2, name == "remindafter")
			}
			x.explore(start)
			for what, v := range x.wrong {
				t.Logf("%s: %s", what, strings.Join(v.trace(), " > "))
			}
			if x.wrong[m.want] == nil {
				t.Errorf("%s: %d states, and not %s", m.fault, len(x.states), m.want)
			}
		})
	}
}
