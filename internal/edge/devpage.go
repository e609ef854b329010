package edge

import (
	"html"
	"net/http"
	"strconv"

	"github.com/guado-server/guado/internal/exchange"
)

// devPage shows a developer what is wrong first, and the traceback below it.
func devPage(x *exchange.Exchange, status int, p *exchange.Problem) []byte {
	e := html.EscapeString
	text := "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n" +
		"<title>" + e(p.Headline) + "</title>\n" +
		"<style>body{font:16px/1.5 system-ui,sans-serif;margin:5vh 2rem}" +
		"h1{font-size:1.3rem;color:#b00}code,pre{font-family:ui-monospace,monospace}pre{overflow:auto}p{color:#666}" +
		"@media(prefers-color-scheme:dark){body{background:#111;color:#eee}h1{color:#f77}p{color:#aaa}}</style>\n" +
		"<h1>" + e(p.Headline) + "</h1>\n<pre>" + e(p.Detail) + "</pre>\n" +
		"<p>" + strconv.Itoa(status) + " " + e(http.StatusText(status)) + ", code <code>" + e(p.Code) + "</code>, request <code>" + e(x.ID) + "</code></p>\n"
	if p.Passing && x.Method == http.MethodGet {
		text += reloader
	}
	return []byte(text + "</html>\n")
}

// reloader asks again, as a program that wants JSON, until the answer is another one.
// While workers restart the question waits for them.
const reloader = `<script>
const ask = async () => {
  const answer = await fetch(location.href, {headers: {Accept: "application/json"}, cache: "no-store"});
  return answer.status + " " + (answer.status === 503 ? JSON.stringify((await answer.json()).detail) : "");
};
let first;
const look = async () => {
  try {
    const now = await ask();
    if (first === undefined) first = now;
    if (now !== first || !now.startsWith("503 ")) return location.reload();
  } catch {} // the server is restarting
  setTimeout(look, 700);
};
look();
</script>
<p>This page loads again when it is fixed.</p>
`
