// Package browsertest drives headless Chromium for the tests of this module.
//
// One Chromium serves all tests of a binary. A [Window] has cookies of its own, as a person with a browser has;
// a [Tab] is a page in it.
//
//	test binary ──[Main]──► Chromium
//	                          ├── Window of one test: cookies
//	                          │     ├── Tab
//	                          │     └── Tab
//	                          └── Window of another
//
// Nothing sleeps: [Tab.Wait] and all that looks at elements wait for a condition in the page, until a
// deadline. What a page writes to the console as an error, and exceptions that nobody caught, fail the test when it
// ends, unless they were expected ([Tab.Tolerate]).
//
// Tests are skipped when there is no Chromium; with CI=true they fail.
package browsertest
