package live_test

import (
	"fmt"
	"os"

	"github.com/levada-go/levada/live"
)

// Processes that serve one site, or one after the other, have one secret, such as "openssl rand -hex 32" prints. It
// comes to them as passwords do, here in the environment. NewSite refuses one that is missing or short.
func ExampleOptions() {
	start := func() {
		site, err := live.NewSite(&live.Options{Secret: []byte(os.Getenv("SITE_SECRET"))})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println("serving", site != nil)
	}
	start()

	os.Setenv("SITE_SECRET", "7d5eb2f1a4c84b0f9e6a3c2d1b0a9f8e")
	defer os.Unsetenv("SITE_SECRET")
	start()
	// Output:
	// live: Options.Secret has 0 bytes; it needs 32 random ones at least
	// serving true
}
