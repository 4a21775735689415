// Command chat is a chat with live pages: rooms, people, history. See README.md.
package main

import "github.com/levada-go/levada/examples/chat/web"

func main() { web.Program.Main() }
