//go:build !unix

package localpg

import (
	"errors"
	"fmt"
)

func serverUser() (account, error) {
	return account{}, fmt.Errorf("starting a PostgreSQL server takes a Unix system: give the URL of a running server: %w", errors.ErrUnsupported)
}
