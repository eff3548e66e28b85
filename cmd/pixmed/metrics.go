package main

import (
	"context"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/internal/shared"
)

// metrics are what Prometheus scrapes; docs/inbox.md says what each means and when
// to wake somebody.
type metrics struct {
	registry         *prometheus.Registry
	requests         *prometheus.CounterVec
	requestDuration  prometheus.Histogram
	attempts         *prometheus.CounterVec
	attemptDuration  prometheus.Histogram
	forwards         *prometheus.CounterVec
	forwardDuration  prometheus.Histogram
	downloads        *prometheus.CounterVec
	downloadDuration prometheus.Histogram
}

func newMetrics() *metrics {
	counter := func(name, help string, values ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"result"})
		for _, v := range values {
			c.WithLabelValues(v) // from 0 on, so that the first one is an increase
		}
		return c
	}
	histogram := func(name, help string) prometheus.Histogram {
		buckets := prometheus.ExponentialBuckets(0.001, 2.5, 13) // to a minute
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
	}
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: counter("pixmed_webhook_requests_total", "Webhook requests by result.",
			string(pixmed.ResultAccepted), string(pixmed.ResultDuplicate), string(pixmed.ResultInvalid), string(pixmed.ResultRefused),
			string(pixmed.ResultOther), string(pixmed.ResultFailed), string(pixmed.ResultBusy)),
		requestDuration: histogram("pixmed_webhook_duration_seconds", "Time to answer a webhook request."),
		attempts: counter("pixmed_inbox_attempts_total", "Attempts at notifications and reminders by result.",
			string(inbox.AttemptDone), string(inbox.AttemptFailed), string(inbox.AttemptDead), string(inbox.AttemptInterrupted), string(inbox.AttemptLate)),
		attemptDuration:  histogram("pixmed_inbox_attempt_duration_seconds", "Time that attempts took."),
		forwards:         counter("pixmed_forwards_total", "Notifications and reminders posted to the application by result.", "done", "failed"),
		forwardDuration:  histogram("pixmed_forward_duration_seconds", "Time that the application took to answer."),
		downloads:        counter("pixmed_receipt_downloads_total", "Downloads of receipts by result.", "saved", "failed"),
		downloadDuration: histogram("pixmed_receipt_download_duration_seconds", "Time that downloads of receipts took."),
	}
	m.registry.MustRegister(m.requests, m.requestDuration, m.attempts, m.attemptDuration, m.forwards, m.forwardDuration, m.downloads, m.downloadDuration,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), newBuildInfo())
	return m
}

func newBuildInfo() prometheus.Collector {
	version := "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		version = info.Main.Version
	}
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "pixmed_build_info", Help: "Which version of pixmed this is; the value is 1.",
		ConstLabels: prometheus.Labels{"version": version},
	}, func() float64 { return 1 })
}

// keepCounts is how old what the inboxes count may be: counting takes the longer the
// more there is, and all who scrape within this time share one count.
const keepCounts = time.Second

// watch adds what the inboxes count, kept for a while. There may be no inbox of
// receipts.
func (m *metrics) watch(in, receipts *inbox.Inbox, keep time.Duration) {
	c := &inboxCollector{inbox: in}
	if receipts != nil {
		c.receipts = receipts
	}
	m.collect(c, keep)
}

func (m *metrics) collect(c *inboxCollector, keep time.Duration) {
	c.counts = &shared.Value[inboxCounts]{Compute: c.count, Keep: keep, Timeout: scrapeTimeout, Now: time.Now}
	m.registry.MustRegister(c)
}

func (m *metrics) request(_ context.Context, o pixmed.Outcome) {
	m.requests.WithLabelValues(string(o.Result)).Inc()
	m.requestDuration.Observe(o.Duration.Seconds())
}

func (m *metrics) attempt(_ context.Context, a inbox.Attempt) {
	m.attempts.WithLabelValues(string(a.Result)).Inc()
	m.attemptDuration.Observe(a.Duration.Seconds())
}

func (m *metrics) forward(took time.Duration, err error) {
	m.forwards.WithLabelValues(resultOf(err, "done")).Inc()
	m.forwardDuration.Observe(took.Seconds())
}

func (m *metrics) download(took time.Duration, err error) {
	m.downloads.WithLabelValues(resultOf(err, "saved")).Inc()
	m.downloadDuration.Observe(took.Seconds())
}

func resultOf(err error, good string) string {
	if err != nil {
		return "failed"
	}
	return good
}

// handler serves the metrics. What cannot be collected, as while the database is
// away, is left out.
func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError, Timeout: 15 * time.Second})
}

// scrapeTimeout is how long it may take to count what an inbox holds.
const scrapeTimeout = 5 * time.Second

// inboxCollector asks the inboxes, so that all replicas tell the same.
type inboxCollector struct {
	inbox    counting
	receipts interface { // nil without a gateway
		Stats(ctx context.Context) (inbox.Stats, error)
	}
	counts *shared.Value[inboxCounts]
}

// counting is what the collector needs of an inbox.
type counting interface {
	Stats(ctx context.Context) (inbox.Stats, error)
	CountReceived(ctx context.Context, from time.Time, span time.Duration, n int) ([]inbox.Received, error)
}

// inboxCounts are taken one after the other: what is done here has been handed on to
// the receipts that are counted.
type inboxCounts struct {
	inbox.Stats

	lastDay     inbox.Received
	receipts    inbox.Stats
	receiptsErr error
}

func (c *inboxCollector) count(ctx context.Context) (counts inboxCounts, err error) {
	if counts.Stats, err = c.inbox.Stats(ctx); err != nil {
		return counts, err
	}
	const day = 24 * time.Hour
	lastDay, err := c.inbox.CountReceived(ctx, time.Now().Add(-day), day, 1)
	if err != nil {
		return counts, err
	}
	counts.lastDay = lastDay[0]
	if c.receipts != nil {
		counts.receipts, counts.receiptsErr = c.receipts.Stats(ctx)
	}
	return counts, nil
}

var (
	notificationsDesc = prometheus.NewDesc("pixmed_inbox_notifications", "Stored notifications by state; of what is done, those that were received in the last day.", []string{"state"}, nil)
	oldestPendingDesc = prometheus.NewDesc("pixmed_inbox_oldest_pending_seconds", "Age of the oldest pending notification, 0 if none is.", nil, nil)
	casesOpenDesc     = prometheus.NewDesc("pixmed_cases_open", "Cases that are open.", nil, nil)
	blockedDesc       = prometheus.NewDesc("pixmed_cases_blocked_reais", "Sum of the values of open cases.", nil, nil)
	overdueDesc       = prometheus.NewDesc("pixmed_cases_overdue", "Open cases that were due and are not answered.", nil, nil)
	nearestDueDesc    = prometheus.NewDesc("pixmed_cases_nearest_due_timestamp_seconds", "When the first open case is due that is neither answered nor overdue; none if there is none.", nil, nil)
	receiptsDesc      = prometheus.NewDesc("pixmed_receipts", "Receipts that are not fetched, by state.", []string{"state"}, nil)
	oldestReceiptDesc = prometheus.NewDesc("pixmed_receipts_oldest_pending_seconds", "Age of the oldest notification whose receipt is to be fetched, 0 if there is none.", nil, nil)
	givenUpDesc       = prometheus.NewDesc("pixmed_cases_reminders_given_up", "Open cases that are not answered and have a reminder that failed for good.", nil, nil)
)

// Describe implements [prometheus.Collector].
func (c *inboxCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{notificationsDesc, oldestPendingDesc, casesOpenDesc, blockedDesc, overdueDesc, nearestDueDesc, givenUpDesc} {
		ch <- d
	}
	if c.receipts != nil {
		ch <- receiptsDesc
		ch <- oldestReceiptDesc
	}
}

// Collect implements [prometheus.Collector].
func (c *inboxCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	stats, _, err := c.counts.Get(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(notificationsDesc, err)
		return
	}
	for state, n := range map[inbox.State]int64{
		inbox.Pending: stats.Pending, inbox.Done: stats.lastDay.Done, inbox.Dead: stats.Dead, inbox.Quarantined: stats.Quarantined,
	} {
		ch <- prometheus.MustNewConstMetric(notificationsDesc, prometheus.GaugeValue, float64(n), string(state))
	}
	for desc, value := range map[*prometheus.Desc]float64{
		oldestPendingDesc: stats.OldestPending.Seconds(),
		casesOpenDesc:     float64(stats.Open),
		blockedDesc:       float64(stats.Blocked) / float64(pixmed.Real),
		overdueDesc:       float64(stats.Overdue),
		givenUpDesc:       float64(stats.RemindersGivenUp),
	} {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value)
	}
	if !stats.NearestDue.IsZero() {
		ch <- prometheus.MustNewConstMetric(nearestDueDesc, prometheus.GaugeValue, float64(stats.NearestDue.Unix()))
	}
	switch {
	case c.receipts == nil:
	case stats.receiptsErr != nil:
		ch <- prometheus.NewInvalidMetric(receiptsDesc, stats.receiptsErr)
	default:
		ch <- prometheus.MustNewConstMetric(receiptsDesc, prometheus.GaugeValue, float64(stats.receipts.Pending), string(inbox.Pending))
		ch <- prometheus.MustNewConstMetric(receiptsDesc, prometheus.GaugeValue, float64(stats.receipts.Dead), string(inbox.Dead))
		ch <- prometheus.MustNewConstMetric(oldestReceiptDesc, prometheus.GaugeValue, stats.receipts.OldestPending.Seconds())
	}
}
