package inboxtest_test

import (
	"os"
	"testing"

	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
)

func TestMain(m *testing.M) { os.Exit(enginetest.Main(m)) }
