package config

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestAProgramTakesFolderInterpreterAndEnvironmentOfItsGroup(t *testing.T) {
	dir := folder(t, map[string]string{"shop/.env": "A=file\nB=file\n", "tasks/x": ""})
	c := mustLoad(t, dir, shop+"dir = \"shop\"\nenv_file = \"shop/.env\"\n[app.env]\nB = \"app\"\nC = \"app\"\n"+
		"[[program]]\nname = \"own\"\ncommand = [\"true\"]\n"+
		"[[program]]\nname = \"migrate\"\ngroup = \"shop\"\ncommand = [\"true\"]\n[program.env]\nC = \"program\"\n"+
		"[[program]]\nname = \"tasks\"\ngroup = \"shop\"\ndir = \"tasks\"\ncommand = [\"true\"]\n")
	if c.Program("own").Dir != dir || c.Program("migrate").Dir != dir+"/shop" || c.Program("tasks").Dir != dir+"/tasks" {
		t.Errorf("%+v", c.Programs)
	}
	env, err := c.Environ(c.Program("migrate"), []string{"A=host", "D=host", "GUADO__X=1", "NOTIFY_SOCKET=x"})
	if err != nil || !slices.Equal(env, []string{"A=file", "B=app", "C=program", "D=host"}) {
		t.Errorf("%v %v", env, err)
	}
}

func TestInstancesAreNumberedInAllTheirKeys(t *testing.T) {
	c := mustLoad(t, t.TempDir(), shop+"[[program]]\nname = \"tasks\"\ninstances = 2\n"+
		"command = [\"work\", \"{name}\", \"--port=900{number}\", \"{other}\"]\nready = \"tcp:127.0.0.1:900{number}\"\nstdout = \"{name}.log\"\n[program.env]\nN = \"{number}\"\n")
	p := c.Program("tasks").Instance(2)
	if p.Name != "tasks-2" || strings.Join(p.Command, " ") != "work tasks-2 --port=9002 {other}" ||
		p.Ready != "tcp:127.0.0.1:9002" || p.Env["N"] != "2" || !strings.HasSuffix(p.Stdout, "/tasks-2.log") {
		t.Errorf("%+v", p)
	}
	c.Programs[0].Instances = 1
	if p := c.Program("tasks").Instance(1); p.Name != "tasks" {
		t.Errorf("a lone one is %s", p.Name)
	}
}

func TestThePolicyOfARestartFollowsFromWhatTheProgramIs(t *testing.T) {
	for text, want := range map[string]string{
		"": RestartAlways, "once = true": RestartOnFailure, "schedule = \"@daily\"": RestartNever, "restart = \"never\"": RestartNever,
	} {
		c := mustLoad(t, t.TempDir(), shop+"[[program]]\nname = \"x\"\ncommand = [\"true\"]\n"+text+"\n")
		if got := c.Programs[0].Policy(); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

func TestWhatIsWrongWithAProgramIsSaid(t *testing.T) {
	const head = "[[program]]\nname = \"x\"\n"
	for text, want := range map[string]string{
		head:                                   "program.x: needs a command",
		head + "command = \"run it --fast\"\n": `guado.toml:6: program.x.command = "run it --fast": is one word with spaces; no shell takes it apart: write ["run", "it", "--fast"]`,
		head + "command = [\"a\"]\nafter = [\"daemn\"]\n[[program]]\nname = \"daemon\"\ncommand = [\"d\"]\n":               `program.x.after = "daemn": there is no such [[program]]; did you mean "daemon"?`,
		head + "command = [\"a\"]\ngroup = \"ship\"\n":                                                                     `there is no such [[group]] or [[app]]; did you mean "shop"?`,
		head + "command = [\"a\"]\nready = \"tcp:8000\"\n":                                                                 "must be tcp:HOST:PORT",
		head + "command = [\"a\"]\nready = \"log:(\"\n":                                                                    "is no regular expression",
		head + "command = [\"a\"]\nready = \"soon\"\n":                                                                     "must be tcp:HOST:PORT, unix:PATH, file:PATH, log:REGEXP or notify",
		head + "command = [\"a\"]\nstop_signal = \"TREM\"\n":                                                               `program.x.stop_signal = "TREM": is no signal`,
		head + "command = [\"a\"]\nschedule = \"* * *\"\n":                                                                 "is no cron expression",
		head + "command = [\"a\"]\nschedule = \"0 0 30 2 *\"\n":                                                            "never comes",
		head + "command = [\"a\"]\nschedule = \"TZ=\"\n":                                                                   "use time_zone",
		head + "command = [\"a\"]\nschedule = \"@daily\"\ntime_zone = \"Europe/Atlantis\"\n":                               "unknown time zone",
		head + "command = [\"a\"]\ntime_zone = \"Europe/Rome\"\n":                                                          "for programs with a schedule only",
		head + "command = [\"a\"]\nonce = true\nschedule = \"@daily\"\n":                                                   "remove one of the two",
		head + "command = [\"a\"]\nonce = true\nrestart = \"always\"\n":                                                    "use on-failure or never",
		head + "command = [\"a\"]\nonce = true\nready = \"notify\"\n":                                                      "remove ready",
		head + "command = [\"a\"]\ninstances = 2\nstdout = \"x.log\"\n":                                                    "put {name} or {number} into it",
		head + "command = [\"a\"]\nstdout = \"none/x.log\"\n":                                                              "does not exist",
		head + "command = [\"a\"]\nexit_codes = [0, \"two\"]\n":                                                            "must be a list of whole numbers",
		head + "command = [\"a\"]\nafter = [\"y\"]\n[[program]]\nname = \"y\"\ncommand = [\"b\"]\nschedule = \"@daily\"\n": "has a schedule, so nothing can wait for it",
		head + "command = [\"a\"]\n" + head + "command = [\"a\"]\n":                                                        "is the name of program[0], too",
	} {
		_, err := load(t, t.TempDir(), shop+text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n got %v\nwant %s", text, err, want)
		}
	}
}

func TestACircleOfProgramsIsAnErrorWithTheirNames(t *testing.T) {
	_, err := load(t, t.TempDir(), shop+
		"[[program]]\nname = \"free\"\ncommand = [\"a\"]\nafter = [\"a\"]\n"+
		"[[program]]\nname = \"a\"\ncommand = [\"a\"]\nafter = [\"b\"]\n"+
		"[[program]]\nname = \"b\"\ncommand = [\"a\"]\nafter = [\"c\"]\n"+
		"[[program]]\nname = \"c\"\ncommand = [\"a\"]\nafter = [\"a\"]\n")
	wants(t, err, "program.a.after: programs wait for each other in a circle, so none would start: a → b → c → a")
}

func TestAnAppWaitsForProgramsThatThereAre(t *testing.T) {
	_, err := load(t, t.TempDir(), shop+"after = [\"migrat\"]\n[[program]]\nname = \"migrate\"\ncommand = [\"a\"]\nonce = true\n")
	wants(t, err, `app.shop.after = "migrat": there is no such [[program]]; did you mean "migrate"?`)
	c := mustLoad(t, t.TempDir(), shop+"after = \"migrate\"\n[[program]]\nname = \"migrate\"\ncommand = [\"a\"]\nonce = true\n")
	if !slices.Equal(c.Groups[0].After, []string{"migrate"}) {
		t.Errorf("%+v", c.Groups[0])
	}
}

func TestAHostOfProgramsAloneNeedsNoApp(t *testing.T) {
	mustLoad(t, t.TempDir(), "[[program]]\nname = \"x\"\ncommand = [\"a\"]\n")
}

func TestSchedulesKeepToTheirTimeZone(t *testing.T) {
	s, err := ParseSchedule("30 3 * * *", "Europe/Rome")
	if err != nil {
		t.Skip(err) // no time zone database here
	}
	// In the night of 28 to 29 March 2026 clocks go from 2 to 3.
	at := time.Date(2026, 3, 28, 12, 0, 0, 0, time.UTC)
	if next := s.Next(at).UTC(); !next.Equal(time.Date(2026, 3, 29, 1, 30, 0, 0, time.UTC)) {
		t.Errorf("%v", next)
	}
}

func TestExitCodesAreReadFromTheEnvironmentToo(t *testing.T) {
	c := mustLoad(t, t.TempDir(), shop+"[[program]]\nname = \"x\"\ncommand = [\"a\"]\n", "GUADO__PROGRAM__X__EXIT_CODES=0, 2")
	if !slices.Equal(c.Programs[0].ExitCodes, []int{0, 2}) {
		t.Errorf("%v", c.Programs[0].ExitCodes)
	}
}
