package pixmed

// ClientOption configures [NewClient].
type ClientOption interface{ applyClient(*clientConfig) error }

type clientConfig struct{}

func (o loggerOption) applyClient(*clientConfig) error { return o.check() }
