module github.com/pixmed-go/pixmed/examples

go 1.26.0

require github.com/pixmed-go/pixmed v0.1.0

replace github.com/pixmed-go/pixmed => ../
