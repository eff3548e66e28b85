package ops_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/pixmed-go/pixmed"
)

// The chart has a bar for each day and state, and says in words what it shows.
func TestChart(t *testing.T) {
	t.Parallel()
	s := newSite(t, noon())
	for i, ago := range []int{0, 0, 0, 2, 13, 14, 40} { // the last two are too old
		s.receive(t, func(n *pixmed.Notification) {
			n.ReceivedAt = time.Now().AddDate(0, 0, -ago).Add(time.Duration(i) * time.Second)
		})
	}
	s.dead(t, errLedger, anything)
	a := s.do(t, http.MethodGet, "/", http.Header{"Accept-Language": {"pt-BR"}}, nil)
	a.mustHold(t, http.StatusOK, "por situação: 6 notificações</title>", "<span class=\"done\">concluídas</span>", "<span class=\"dead\">falhas definitivas</span>",
		`<rect class="done" x="338" y="15" width="20" height="45">`, `<rect class="dead" x="338" y="0" width="20" height="15">`, // today
		`<rect class="done" x="286" y="45" width="20" height="15">`, `<rect class="done" x="0" y="45" width="20" height="15">`,
		`<th scope="row">`+time.Now().In(location()).Format("02/01")+`</th><td class="number">3</td><td class="number">0</td><td class="number">0</td><td class="number">1</td>`)
}
