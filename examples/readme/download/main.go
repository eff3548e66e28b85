// Command download is the download of the README.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/pixmed-go/pixmed"
)

func main() {
	client, err := pixmed.NewClient("https://gateway.example/v1",
		pixmed.WithHeader("api_key", os.Getenv("GATEWAY_KEY")),
		pixmed.WithHeader("api_secret", os.Getenv("GATEWAY_SECRET")))
	if err != nil {
		log.Fatal(err)
	}
	info, err := client.SaveReceipt(context.Background(), os.Args[1], "receipt.pdf")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(info)
}
