package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/guado-server/guado"
)

func (c *command) pages() *cobra.Command {
	return listing[guado.PageStatus]{
		command: c, noun: "page", key: "pages", none: "no pages",
		short: "List the pages that the server knows",
		long:  "Lists the pages: the tabs of browsers, with a session of push or without (from phase 3 on).",
		example: []string{
			"guado pages", "whose they are, and what waits for them",
			"guado pages --json", "with all figures",
			"guado pages --ended", "the last ones that ended, and why",
			"guado pages end Q3nT1h7KOSqTnWsuOcT4RA", "end one: its client is told",
		},
		ends: []string{"guado pages end Q3nT1h7KOSqTnWsuOcT4RA", "end one: its client is told"},
		text: pagesText,
	}.verb()
}

// pagesText is the list of pages for people.
func pagesText(pages []guado.PageStatus, _ time.Time) string {
	var b strings.Builder
	t := newTable(&b, "PAGE", "USER", "CLASS", "PATH", "CLIENT", "IDLE", "SENT", "UNACKED", "RECEIVED", "TURNS", "STORE")
	for i := range pages {
		p := &pages[i]
		client := "away"
		switch {
		case p.Connected:
			client = "connected"
		case p.Attached == 0 && p.Claimed:
			client = "polls"
		case p.Attached == 0:
			client = "not yet"
		}
		t.row(p.Page, cmp.Or(p.User, "(guest)"), cmp.Or(p.Class, "-"), cmp.Or(p.Path, "-"), client, age(time.Duration(p.IdleMillis)*time.Millisecond),
			p.Last, p.Tail, p.Got, p.Waiting+p.Running, bytesText(p.Bytes))
	}
	t.end()
	return b.String()
}

func (c *command) users() *cobra.Command {
	return listing[guado.UserStatus]{
		command: c, noun: "user", key: "users", none: "nobody is logged in",
		short: "List the users who are logged in",
		long:  "Lists the users who are logged in, each with the browsers and pages that he uses, and names those who have logged out and are still remembered (from phase 3 on).",
		example: []string{
			"guado users", "who was seen last first",
			"guado users --ended", "the last ones who have gone, and why",
			"guado users end ann", "log somebody out everywhere",
		},
		ends: []string{"guado users end ann", "log somebody out everywhere"},
		text: usersText,
	}.verb()
}

// usersText is the list of users for people.
func usersText(users []guado.UserStatus, now time.Time) string {
	var b strings.Builder
	gone := slices.DeleteFunc(slices.Clone(users), func(u guado.UserStatus) bool { return u.Connections > 0 })
	if len(gone) == len(users) {
		b.WriteString("nobody is logged in\n")
	}
	t := newTable(&b, "USER", "FLAG", "BROWSERS", "PAGES", "SINCE", "SEEN", "STORE")
	for i := range users {
		u := &users[i]
		if u.Connections == 0 {
			continue
		}
		t.row(u.Name, cmp.Or(u.Flag, "-"), u.Connections, u.Pages, age(now.Sub(u.Since)), age(now.Sub(u.Seen)), bytesText(u.Bytes))
	}
	if len(gone) < len(users) {
		t.end()
	}
	if len(gone) > 0 {
		names := make([]string, 0, mostNames)
		for i := range gone[:min(len(gone), mostNames)] {
			names = append(names, gone[i].Name)
		}
		more := ""
		if n := len(gone) - len(names); n > 0 {
			more = fmt.Sprintf(" and %d more", n)
		}
		fmt.Fprintf(&b, "logged out, and remembered for a while: %s%s\n", strings.Join(names, ", "), more)
	}
	return b.String()
}

// mostNames is how many of the users are named who have logged out.
const mostNames = 20

func (c *command) connections() *cobra.Command {
	return listing[guado.ConnectionStatus]{
		command: c, noun: "connection", key: "connections", none: "no connections",
		short: "List the browsers that the server knows",
		long:  "Lists the connections: browsers of users and of guests (from phase 3 on).",
		example: []string{
			"guado connections", "those that were seen last first",
			"guado connections --ended", "the last ones that ended, and why",
			"guado connections end Q3nT1h7KOSqTnWsuOcT4RA", "forget a browser, with its pages",
		},
		ends: []string{"guado connections end Q3nT1h7KOSqTnWsuOcT4RA", "forget a browser, with its pages"},
		text: connectionsText,
	}.verb()
}

// connectionsText is the list of connections for people.
func connectionsText(list []guado.ConnectionStatus, now time.Time) string {
	var b strings.Builder
	t := newTable(&b, "CONNECTION", "USER", "FLAG", "ADDRESS", "PAGES", "SINCE", "SEEN", "STORE", "BROWSER")
	for i := range list {
		k := &list[i]
		address := "-"
		if k.Address.IsValid() {
			address = k.Address.String()
		}
		t.row(k.ID, cmp.Or(k.User, "(guest)"), cmp.Or(k.Flag, "-"), address, k.Pages, age(now.Sub(k.Since)), age(now.Sub(k.Seen)),
			bytesText(k.Bytes), cmp.Or(shortened(k.Agent), "-"))
	}
	t.end()
	return b.String()
}

// endedText is the list of ended items for people.
func endedText(list []guado.Ended, now time.Time) string {
	var b strings.Builder
	t := newTable(&b, "ENDED", "WHY", "AGO", "USER", "CONNECTION")
	for i := range list {
		e := &list[i]
		t.row(e.ID, e.Why, age(now.Sub(e.At)), cmp.Or(e.User, "(guest)"), cmp.Or(e.Connection, "-"))
	}
	t.end()
	return b.String()
}

// shortened is the name of a browser as far as it fits, without what breaks a table.
func shortened(agent string) string {
	const most = 60
	clean := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, agent)
	if runes := []rune(clean); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return clean
}

// bytesText is a size for people.
func bytesText(n int64) string {
	switch {
	case n == 0:
		return "-"
	case n < 10<<10:
		return fmt.Sprintf("%dB", n)
	case n < 10<<20:
		return fmt.Sprintf("%dKiB", n>>10)
	}
	return fmt.Sprintf("%dMiB", n>>20)
}
