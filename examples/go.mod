module github.com/pixmed-go/pixmed/examples

go 1.26.0

require github.com/pixmed-go/pixmed v0.1.0

require (
	github.com/go-json-experiment/json v1.27.2 // indirect
	github.com/google/go-cmp v0.7.0
	github.com/google/uuid v1.6.0 // indirect
	github.com/hashicorp/go-cleanhttp v0.5.2 // indirect
	github.com/hashicorp/go-retryablehttp v0.7.8 // indirect
)

replace github.com/pixmed-go/pixmed => ../
