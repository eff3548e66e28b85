package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
)

var (
	sendCount = &setting{flag: "count", variable: "PIXMED_COUNT", arg: "N", value: "100", usage: "for burst: how many notifications"}
	sendCase  = &setting{flag: "transaction", variable: "PIXMED_TRANSACTION", arg: "ID", usage: "transaction id to send, a UUID; a new one each time unless set"}
	sendSeed  = &setting{flag: "seed", variable: "PIXMED_SEED", arg: "N", usage: "for shuffled: repeat the order that was printed with this number"}
	sendPlain = &setting{flag: "webhook-plain-http", variable: "PIXMED_WEBHOOK_PLAIN_HTTP", usage: "allow a secret over http:// to another host, which exposes it to the network"}
)

func newSend(p *process) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "send URL [HISTORY]",
		Short: "Send test deliveries to a webhook",
		Long: `Sends test deliveries to a webhook, prints each answer, and says whether a real
gateway would be content with it: a gateway is content with 200 and nothing else.

Histories:
` + historyHelp() + `
Each delivery is sent once, with the secret or signature that --verify asks for. The
exit code is 0 if a gateway would be content with every answer, and 3 if the webhook
rejects the secret or signature. To a broken delivery, 200 means that it was kept for
a person to see; 400, 413, 415 and 422 tell the gateway why, and are no failure.`,
		Example: `  export PIXMED_WEBHOOK_SECRETS=...
  pixmed send http://localhost:8080/webhooks/infraction
  pixmed send http://localhost:8080/webhooks/infraction debited
  pixmed send --verify hmac http://localhost:8080/webhooks/infraction burst --count 1000`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return usageError(fmt.Errorf("want the webhook's URL and perhaps a history, not %d arguments", len(args)))
			}
			return nil
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) != 1 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			var names []string
			for _, h := range histories {
				names = append(names, h.name+"\t"+h.about)
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
	}
	addSettings(cmd, append(proofSettings, sendPlain, sendCount, parallelism, timeLimit, sendCase, sendSeed)...)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s, deliveries, err := newSender(newValues(cmd, p), args)
		if err != nil {
			return err
		}
		return s.run(cmd.Context(), p.out, deliveries)
	}
	return cmd
}

// sender sends deliveries to one URL.
type sender struct {
	url      string
	proof    *proof
	client   *http.Client
	timeout  time.Duration
	parallel int
	each     bool // whether every answer is printed
}

// newSender reads the command line and the settings.
func newSender(v *values, args []string) (*sender, []delivery, error) {
	proof := readProof(v, 1)
	plain := v.on(sendPlain)
	u, err := url.Parse(args[0])
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		v.errs = append(v.errs, errors.New("this is not a URL; it should look like https://merchant.example/webhooks/infraction"))
	case u.User != nil:
		v.errs = append(v.errs, errors.New("the URL contains a user name or a password: use --verify basic"))
	case u.Query().Has(proof.query):
		v.errs = append(v.errs, fmt.Errorf("the URL contains the secret, where everybody on the machine can see it: use --verify query and %s", proofQuerys.variable))
	case u.Scheme == "http" && !plain && !loopback(u.Hostname()) && proof.showsSecret():
		v.errs = append(v.errs, errors.New("http:// would expose the secret to the network: use https://, or --webhook-plain-http if you mean it"))
	}
	s := &sender{url: args[0], proof: proof, parallel: v.number(parallelism, 1000), timeout: timeout(v, 10*time.Second)}
	plan := plan{count: v.number(sendCount, 1_000_000), transaction: v.transaction(sendCase), seed: v.seed(sendSeed)}
	story := histories[0]
	if len(args) > 1 {
		at := slices.IndexFunc(histories, func(h history) bool { return h.name == args[1] })
		if at < 0 {
			v.errs = append(v.errs, errors.New("there is no history of this name; the help lists them"))
		} else {
			story = histories[at]
		}
	}
	if err := v.err(); err != nil {
		return nil, nil, err
	}
	if s.each = !story.atOnce; s.each {
		s.parallel = 1
	}
	s.client = &http.Client{
		Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: s.parallel, TLSHandshakeTimeout: s.timeout},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return s, story.deliveries(plan), nil
}

// answer is what became of a delivery.
type answer struct {
	delivery
	number int
	status int    // 0 if there was no answer
	text   string // what came with another status than 200
	err    error  // why there was no answer
	took   time.Duration
}

// run sends all deliveries, and prints what becomes of them.
func (s *sender) run(ctx context.Context, out io.Writer, deliveries []delivery) error {
	defer s.client.CloseIdleConnections()
	next, answers := make(chan answer), make(chan answer)
	var senders sync.WaitGroup
	for range s.parallel {
		senders.Go(func() {
			for a := range next {
				s.send(ctx, &a)
				answers <- a
			}
		})
	}
	go func() {
		defer close(next)
		for i, d := range deliveries {
			select {
			case next <- answer{delivery: d, number: i + 1}:
			case <-ctx.Done():
				return
			}
		}
	}()
	go func() {
		senders.Wait()
		close(answers)
	}()
	var total tally
	for a := range answers {
		verdict := a.verdict()
		total.add(&a, verdict)
		if s.each || verdict != content {
			fmt.Fprintln(out, a.line(verdict))
		}
	}
	fmt.Fprintln(out, total.String())
	switch {
	case ctx.Err() != nil:
		return &exit{exitInterrupted, fmt.Errorf("interrupted after %d of %d", total.sent, len(deliveries))}
	case total.refused > 0:
		return &exit{exitRefused, errors.New("the webhook rejects the secret or signature: compare --verify and the secret with its settings")}
	case total.sent > total.fine:
		return &exit{exitFailed, fmt.Errorf("a gateway would not be content with %d of %d answers", total.sent-total.fine, total.sent)}
	}
	return nil
}

func (s *sender) send(ctx context.Context, a *answer) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	start := time.Now()
	defer func() { a.took = time.Since(start) }()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(a.body))
	if err != nil {
		a.err = withoutURL(err)
		return
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "pixmed-send")
	for _, sign := range s.proof.signers() {
		sign(r, a.body)
	}
	response, err := s.client.Do(r)
	if err != nil {
		a.err = withoutURL(err)
		return
	}
	defer func() { _ = response.Body.Close() }()
	a.status = response.StatusCode
	text, err := io.ReadAll(io.LimitReader(response.Body, 4<<10))
	if a.status != http.StatusOK {
		a.text = s.proof.all().Redact(strings.TrimSpace(string(text)))
	} else if err != nil {
		a.status, a.err = 0, err // the gateway did not see the whole of it
	}
}

// The verdicts on an answer.
const (
	content  = "content"
	kept     = "content: it was kept for a person, or taken for another kind of event"
	declined = "not content, and told why: only logs will show it"
	refused  = "NOT CONTENT: the secret or signature was rejected"
	moved    = "NOT CONTENT: gateways do not follow redirects"
	never    = "NOT CONTENT: no answer came"
	other    = "NOT CONTENT: it would send again, and give up in the end"
)

func (a *answer) verdict() string {
	switch {
	case a.status == 0:
		return never
	case a.status == http.StatusOK && a.broken:
		return kept
	case a.status == http.StatusOK:
		return content
	case a.status == http.StatusUnauthorized || a.status == http.StatusForbidden:
		return refused
	case a.status >= 300 && a.status < 400:
		return moved
	case a.broken && slices.Contains([]int{http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity}, a.status):
		return declined
	}
	return other
}

// patience is how long the least patient gateways wait.
const patience = 3 * time.Second

// line describes an answer in a line.
func (a *answer) line(verdict string) string {
	result := fmt.Sprintf("%d %s", a.status, http.StatusText(a.status))
	if a.status == 0 {
		result = "no answer (" + printable(a.err.Error(), 200) + ")"
	}
	line := fmt.Sprintf("%3d  %-34s  %s  %v  %s", a.number, a.about, strings.TrimSpace(result), a.took.Round(time.Millisecond), verdict)
	if a.took > patience {
		line += fmt.Sprintf("; some gateways wait no longer than %v", patience)
	}
	if a.text != "" {
		line += "\n     " + printable(a.text, 300)
	}
	return line
}

// tally counts answers.
type tally struct {
	sent, fine, refused int
	took                []time.Duration
}

func (t *tally) add(a *answer, verdict string) {
	t.sent++
	t.took = append(t.took, a.took)
	switch verdict {
	case content, kept, declined:
		t.fine++
	case refused:
		t.refused++
	}
}

func (t *tally) String() string {
	if t.sent == 0 {
		return "0 sent"
	}
	slices.Sort(t.took)
	at := func(part float64) time.Duration {
		return t.took[min(int(part*float64(t.sent)), t.sent-1)].Round(time.Millisecond / 10)
	}
	return fmt.Sprintf("%d sent, %d as expected; answered in %v (median), %v (99th percentile), %v (slowest)",
		t.sent, t.fine, at(0.5), at(0.99), at(1))
}

// withoutURL takes the URL out of an error of package net/http: a secret may be in
// its query.
func withoutURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}
