package sqlitestore_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/sqlitestore"
)

// A Posted is an event of a chat room.
type Posted struct {
	By   string `json:"by"`
	Text string `json:"text"`
}

// Events are in a file that any SQLite tool can read, and so can the program
// itself.
func Example() {
	dir, err := os.MkdirTemp("", "levada")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()

	store, err := sqlitestore.Open(filepath.Join(dir, "events.db"), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	if err := store.Types.Register("room.posted", Posted{}); err != nil {
		log.Fatal(err)
	}
	for _, p := range []Posted{{"ann", "hello"}, {"bob", "hi ann"}, {"ann", "bye"}} {
		if _, err := store.Append(ctx, "room-lobby", eventstore.Any, eventstore.Event{Data: p}); err != nil {
			log.Fatal(err)
		}
	}

	var db *sqlitestore.DB
	store.As(&db)
	err = db.Read(ctx, func(c *sqlite.Conn) error {
		const query = `SELECT data ->> 'by', count(*) FROM event_log WHERE type = 'room.posted' GROUP BY 1 ORDER BY 1`
		return sqlitex.Execute(c, query, &sqlitex.ExecOptions{ResultFunc: func(row *sqlite.Stmt) error {
			fmt.Println(row.ColumnText(0), "posted", row.ColumnInt(1))
			return nil
		}})
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output:
	// ann posted 2
	// bob posted 1
}
