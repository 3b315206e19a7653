package deploy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// flags are those of "nametap run", with their defaults.
func flags(t *testing.T) map[string]string {
	t.Helper()
	out, err := exec.Command(nametap(t), "run", "--help").Output()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	_, list, _ := strings.Cut(string(out), "\nFlags:\n")
	for line := range strings.Lines(list) {
		name := regexp.MustCompile(`^ +(?:-\w, )?--([a-z-]+)`).FindStringSubmatch(line)
		if name == nil {
			continue
		}
		value := ""
		if m := regexp.MustCompile(`\(default "?([^":]*?)"?\)$`).FindStringSubmatch(strings.TrimSpace(line)); m != nil {
			value = m[1]
		}
		found[name[1]] = value
	}
	delete(found, "help")
	delete(found, "config")
	if len(found) < 15 {
		t.Fatalf("only %v found", found)
	}
	return found
}

var key = regexp.MustCompile(`(?m)^(#?)([a-z][a-z-]*):(.*)$`)

// TestConfigIsComplete: every flag of nametap run stands in the example
// configuration once, with the default it really has, and no other key does.
func TestConfigIsComplete(t *testing.T) {
	text, err := os.ReadFile("nametap.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := flags(t)
	ofThisMachine := []string{"memory", "shards"}
	for _, m := range key.FindAllStringSubmatch(string(text), -1) {
		value, known := want[m[2]]
		if !known {
			t.Errorf("%s is no flag of nametap run, or stands twice", m[2])
			continue
		}
		delete(want, m[2])
		if m[1] == "#" && value != "" && !slices.Contains(ofThisMachine, m[2]) && !same(m[3], value) {
			t.Errorf("%s: the comment has %s, the default is %s", m[2], m[3], value)
		}
	}
	for name := range want {
		t.Errorf("--%s is missing", name)
	}
}

// same compares a YAML value with a flag's default.
func same(text, flag string) bool {
	text = strings.NewReplacer("[", "", "]", "", `"`, "", " ", "").Replace(text)
	if a, err := time.ParseDuration(text); err == nil {
		b, err := time.ParseDuration(flag)
		return err == nil && a == b
	}
	return text == flag
}

// TestConfigIsAccepted by nametap run, as it is and with every comment's example
// in force: what is wrong then is this machine, not the file.
func TestConfigIsAccepted(t *testing.T) {
	text, err := os.ReadFile("nametap.yaml")
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := os.ReadFile("kubernetes/nametap.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, inMap, _ := strings.Cut(string(manifest), "  nametap.yaml: |\n")
	inMap, _, _ = strings.Cut(inMap, "---")
	for name, config := range map[string]string{
		"as it is":   string(text),
		"all keys":   key.ReplaceAllString(string(text), "$2:$3"),
		"config map": regexp.MustCompile(`(?m)^    `).ReplaceAllString(inMap, ""),
	} {
		file := filepath.Join(t.TempDir(), "nametap.yaml")
		config = strings.ReplaceAll(config, "/var/lib/nametap", t.TempDir())
		if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		// Were it accepted in full, it would run.
		cmd := exec.CommandContext(ctx, nametap(t), "run", "--config", file, "--interface", "nametap-none", "--listen", "127.0.0.1:0")
		out, err := cmd.CombinedOutput()
		cancel()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 1 {
			t.Errorf("%s: %v, want exit status 1\n%s", name, err, out)
		}
		if name != "all keys" && !bytes.Contains(out, []byte("nametap-none")) {
			t.Errorf("%s: stopped at something else than the missing interface\n%s", name, out)
		}
	}
	// And the test can tell: a wrong key is refused with another status.
	file := filepath.Join(t.TempDir(), "wrong.yaml")
	if err := os.WriteFile(file, []byte("interfaces: [eth1]\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := exec.Command(nametap(t), "run", "--config", file).Run(); !errors.As(err, &exit) || exit.ExitCode() != 2 {
		t.Errorf("a wrong key: %v, want exit status 2", err)
	}
}

func lookPath(t *testing.T, name string) string {
	t.Helper()
	p, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("no %s on this machine", name)
	}
	return p
}

// TestLogrotate: logrotate takes the example, and rotates the files of nametap.yaml
// that are appended to.
func TestLogrotate(t *testing.T) {
	config, err := os.ReadFile("nametap.yaml")
	if err != nil {
		t.Fatal(err)
	}
	example, err := os.ReadFile("logrotate/nametap")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"flows", "ping", "events"} {
		m := regexp.MustCompile(`(?m)^#?` + name + `: (.*)$`).FindSubmatch(config)
		if m == nil || !regexp.MustCompile(`(?m)^`+regexp.QuoteMeta(string(m[1]))+`( {)?$`).Match(example) {
			t.Errorf("the file of %s is not rotated", name)
		}
	}
	logrotate := lookPath(t, "logrotate")
	dir := t.TempDir()
	file := filepath.Join(dir, "nametap")
	text := strings.ReplaceAll(string(example), "/var/lib/nametap", dir)
	text = strings.ReplaceAll(text, "systemctl try-reload-or-restart nametap.service", "echo reloaded >>"+filepath.Join(dir, "reloaded"))
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"flows", "events"} {
		if err := os.WriteFile(filepath.Join(dir, name+".jsonl"), []byte("a line\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command(logrotate, "--force", "--state", filepath.Join(dir, "state"), file).CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("logrotate: %v\n%s", err, out)
	}
	for name, there := range map[string]bool{
		"flows.jsonl.1": true, "events.jsonl.1": true, "flows.jsonl": false, "ping.jsonl.1": false,
	} {
		if _, err := os.Stat(filepath.Join(dir, name)); (err == nil) != there {
			t.Errorf("%s: %v", name, err)
		}
	}
	if text, err := os.ReadFile(filepath.Join(dir, "reloaded")); string(text) != "reloaded\n" {
		t.Errorf("nametap was told %q (%v), want once", text, err)
	}
}

func TestUnit(t *testing.T) {
	analyze := lookPath(t, "systemd-analyze")
	// ExecStart has to exist: a root of its own with the program in it.
	root := t.TempDir()
	for from, to := range map[string]string{
		nametap(t):                "usr/bin/nametap",
		"systemd/nametap.service": "etc/systemd/system/nametap.service",
	} {
		copyFile(t, from, filepath.Join(root, to))
	}
	for _, unit := range []string{"sysinit.target", "basic.target", "network.target", "multi-user.target", "shutdown.target", "-.mount", "tmp.mount", "system.slice", "-.slice"} {
		path := filepath.Join("/usr/lib/systemd/system", unit)
		if _, err := os.Stat(path); err == nil {
			copyFile(t, path, filepath.Join(root, path))
		}
	}
	copyFile(t, "/bin/kill", filepath.Join(root, "bin/kill"))
	out, err := exec.Command(analyze, "--root="+root, "--man=no", "verify", filepath.Join(root, "etc/systemd/system/nametap.service")).CombinedOutput()
	if err != nil || len(bytes.TrimSpace(out)) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	// 0 is best, 100 worst; a service without any hardening has 96.
	out, err = exec.Command(analyze, "security", "--offline=true", "--threshold=20", "systemd/nametap.service").CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	t.Log(lines[len(lines)-1])
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, text, info.Mode())); err != nil {
		t.Fatal(err)
	}
}

// TestUnitSuffices runs nametap with no more than the unit leaves it, as far as
// that can be had without systemd: an ordinary user with the one capability and
// no new privileges, and none but the allowed system calls. It tries bpf, and has
// to go on where that is refused, as it is here by the capabilities.
func TestUnitSuffices(t *testing.T) {
	setpriv, strace, analyze := lookPath(t, "setpriv"), lookPath(t, "strace"), lookPath(t, "systemd-analyze")
	if os.Getuid() != 0 {
		t.Skip("needs root to give its rights away")
	}
	dir := t.TempDir()
	if err := errors.Join(os.Chmod(dir, 0o777), os.Chmod(filepath.Dir(dir), 0o755)); err != nil {
		t.Fatal(err)
	}
	calls := filepath.Join(dir, "calls")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	unit, err := os.ReadFile("systemd/nametap.service")
	if err != nil {
		t.Fatal(err)
	}
	capability := regexp.MustCompile(`(?m)^AmbientCapabilities=CAP_(\w+)$`).FindSubmatch(unit)
	if capability == nil {
		t.Fatal("the unit does not have one capability")
	}
	only := "-all,+" + strings.ToLower(string(capability[1]))
	state := filepath.Join(dir, "state")
	if err := errors.Join(os.Mkdir(state, 0o777), os.Chmod(state, 0o777)); err != nil {
		t.Fatal(err)
	}
	out := start(t, ctx, state, "nametap run", strace, "-f", "-qq", "-o", calls,
		setpriv, "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs",
		"--inh-caps="+only, "--ambient-caps="+only, "--bounding-set="+only,
		nametap(t), "run", "--interface", "lo", "--listen", "127.0.0.1:0", "--memory", "256M", "--ring", "8M",
		"--state", filepath.Join(state, "state.json"), "--events", filepath.Join(state, "events.jsonl"))
	var addr string
	eventually(t, ctx, "nametap to capture", func() bool {
		m := regexp.MustCompile(`page=http://(\S+)/`).FindStringSubmatch(out.String())
		if m != nil {
			addr = m[1]
		}
		return m != nil
	})
	seen := regexp.MustCompile(`nametap_capture_packets_total\{interface="lo"\} [1-9]`)
	eventually(t, ctx, "packets of this very request", func() bool {
		page, ok := get(addr, "/metrics")
		return ok && seen.MatchString(page)
	})
	if t.Failed() {
		return
	}
	text, err := os.ReadFile(calls)
	if err != nil {
		t.Fatal(err)
	}
	allowed := allowedCalls(t, analyze, unit)
	var denied []string
	_, after, found := strings.Cut(string(text), nametap(t)) // what setpriv did before is not ours
	if !found {
		t.Fatal("strace did not see nametap start")
	}
	for _, m := range regexp.MustCompile(`(?m)^\d+ +(?:<\.\.\. )?([a-z_0-9]+)(?:\(| resumed)`).FindAllStringSubmatch(after, -1) {
		// Without the right to load a BPF program, classic fanout does.
		if !allowed[m[1]] && m[1] != "bpf" {
			denied = append(denied, m[1])
		}
	}
	slices.Sort(denied)
	if denied = slices.Compact(denied); len(denied) > 0 {
		t.Errorf("the unit's SystemCallFilter denies %v, which nametap uses", denied)
	}
}

// allowedCalls expands the unit's system call filter.
func allowedCalls(t *testing.T, analyze string, unit []byte) map[string]bool {
	t.Helper()
	out, err := exec.Command(analyze, "syscall-filter").Output()
	if err != nil {
		t.Fatal(err)
	}
	sets, name := map[string][]string{}, ""
	for line := range strings.Lines(regexp.MustCompile(`\x1b\[[0-9;]*m`).ReplaceAllString(string(out), "")) {
		word := strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "@"):
			name = word
		case word != "" && !strings.HasPrefix(word, "#"):
			sets[name] = append(sets[name], word)
		}
	}
	allowed := map[string]bool{}
	var set func(name string, to bool)
	set = func(name string, to bool) {
		if !strings.HasPrefix(name, "@") {
			allowed[name] = to
			return
		}
		for _, member := range sets[name] {
			set(member, to)
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^SystemCallFilter=(~?)(\S+)$`).FindAllStringSubmatch(string(unit), -1) {
		set(m[2], m[1] == "")
	}
	if !allowed["read"] || allowed["reboot"] {
		t.Fatalf("the filter was not understood: %d calls", len(allowed))
	}
	return allowed
}

// TestDebianPackage builds it with nfpm and looks inside.
func TestDebianPackage(t *testing.T) {
	dpkg := lookPath(t, "dpkg-deb")
	dir := t.TempDir()
	args := []string{"run", "github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.43.0"}
	builder := "go"
	if p, err := exec.LookPath("nfpm"); err == nil {
		builder, args = p, nil
	} else if os.Getenv("NAMETAP_DOWNLOADS") == "" {
		t.Skip("no nfpm; NAMETAP_DOWNLOADS=1 has Go fetch it")
	}
	cmd := exec.Command(builder, append(args, "package", "-f", "deploy/nfpm.yaml", "-p", "deb", "-t", dir)...)
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "VERSION=1.2.3", "ARCH="+runtime.GOARCH, "BINARY="+nametap(t))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("nfpm: %v\n%s", err, out)
	}
	list, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	out, err := exec.Command(dpkg, "--contents", list[0]).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{
		`-rwxr-xr-x .* \./usr/bin/nametap\n`, `\./usr/lib/systemd/system/nametap.service\n`, `\./etc/nametap/nametap.yaml\n`,
		`\./usr/share/nametap/prometheus/nametap-alerts.yml\n`, `\./usr/share/nametap/grafana/dashboards/nametap-overview.json\n`,
		`\./usr/share/doc/nametap/runbook.md\n`, `\./usr/share/doc/nametap/copyright\n`,
	} {
		if !regexp.MustCompile(want).Match(out) {
			t.Errorf("no %s in\n%s", want, out)
		}
	}
	root := filepath.Join(dir, "root")
	if out, err := exec.Command(dpkg, "--raw-extract", list[0], root).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := exec.Command(filepath.Join(root, "usr/bin/nametap"), "version").CombinedOutput(); err != nil {
		t.Errorf("the packaged program: %v\n%s", err, out)
	}
	conffiles, err := os.ReadFile(filepath.Join(root, "DEBIAN/conffiles"))
	if err != nil || string(bytes.TrimSpace(conffiles)) != "/etc/nametap/nametap.yaml" {
		t.Errorf("conffiles %q, %v", conffiles, err)
	}
}

// TestDebianScripts: a shell can read them.
func TestDebianScripts(t *testing.T) {
	sh := lookPath(t, "sh")
	for _, name := range []string{"postinst", "prerm", "postrm"} {
		if out, err := exec.Command(sh, "-n", filepath.Join("debian", name)).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

// TestContainerfile: what it copies exists, and its build command works and gives
// a program that needs no other file. The image itself is not built here.
func TestContainerfile(t *testing.T) {
	text, err := os.ReadFile("container/Containerfile")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^COPY ([^-].*) \S+$`).FindAllStringSubmatch(string(text), -1) {
		for source := range strings.FieldsSeq(m[1]) {
			if _, err := os.Stat(filepath.Join("..", source)); err != nil {
				t.Errorf("COPY: %v", err)
			}
		}
	}
	m := regexp.MustCompile(`(?m)^RUN CGO_ENABLED=0 (go build .*)$`).FindStringSubmatch(string(text))
	if m == nil {
		t.Fatal("no build command")
	}
	program := filepath.Join(t.TempDir(), "nametap")
	command := strings.Replace(m[1], "/nametap ", program+" ", 1)
	command = strings.Replace(command, "go build", "go build -pgo=auto", 1) // the default, which GOFLAGS may have changed here
	cmd := exec.Command("sh", "-c", command)
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "VERSION=v7.8.9", "COMMIT=0123abc")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", m[1], err, out)
	}
	if out, err := exec.Command(program, "version").Output(); err != nil || !strings.HasPrefix(string(out), "nametap v7.8.9\ncommit 0123abc\n") {
		t.Errorf("version: %v\n%s", err, out)
	}
	if runtime.GOOS != "linux" {
		return
	}
	built, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(built, []byte("/ld-linux")) {
		t.Error("the program wants a dynamic loader, which the image does not have")
	}
}

// TestCompose decodes the compose file with the keys it uses and looks for the
// files it mounts.
func TestCompose(t *testing.T) {
	type service struct {
		Image       string
		Build       struct{ Context, Dockerfile string }
		Command     []string
		Profiles    []string
		NetworkMode string   `yaml:"network_mode"`
		CapDrop     []string `yaml:"cap_drop"`
		CapAdd      []string `yaml:"cap_add"`
		SecurityOpt []string `yaml:"security_opt"`
		ReadOnly    bool     `yaml:"read_only"`
		Restart     string
		Environment map[string]string
		Volumes     []string
	}
	var file struct {
		Name     string
		Services map[string]service
		Volumes  map[string]struct{}
	}
	f, err := os.Open("compose/compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	d := yaml.NewDecoder(f)
	d.KnownFields(true)
	if err := d.Decode(&file); err != nil {
		t.Fatal(err)
	}
	if len(file.Services) != 5 {
		t.Errorf("%d services", len(file.Services))
	}
	for name, s := range file.Services {
		if b := s.Build; b.Context != "" {
			if _, err := os.Stat(filepath.Join("compose", b.Context, b.Dockerfile)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		for _, v := range s.Volumes {
			source, _, _ := strings.Cut(v, ":")
			if _, named := file.Volumes[source]; named {
				continue
			}
			if _, err := os.Stat(filepath.Join("compose", source)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		// On the host's network nothing may listen for the world.
		for _, word := range s.Command {
			if strings.Contains(word, "listen-address=") && !strings.HasSuffix(word, "=") && !strings.Contains(word, "=127.0.0.1:") {
				t.Errorf("%s: %s", name, word)
			}
		}
	}
}

// TestKubernetes decodes the manifest strictly into the API's types, where these
// can be had, and holds its arguments against nametap's flags.
func TestKubernetes(t *testing.T) {
	text, err := os.ReadFile("kubernetes/nametap.yaml")
	if err != nil {
		t.Fatal(err)
	}
	known := flags(t)
	known["config"] = ""
	arguments := regexp.MustCompile(`(?m)^ +- --([a-z-]+)=`).FindAllStringSubmatch(string(text), -1)
	if len(arguments) != 2 {
		t.Errorf("arguments %v", arguments)
	}
	for _, m := range arguments {
		if _, ok := known[m[1]]; !ok {
			t.Errorf("nametap run has no --%s", m[1])
		}
	}
	check := checker(t, "kubernetes/check")
	if out, err := exec.Command(check, "kubernetes/nametap.yaml").CombinedOutput(); err != nil || string(out) != "3 objects\n" {
		t.Errorf("%v\n%s", err, out)
	}
	wrong := filepath.Join(t.TempDir(), "wrong.yaml")
	if err := os.WriteFile(wrong, bytes.Replace(text, []byte("hostNetwork: true"), []byte("hostnetwork: true"), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := exec.Command(check, wrong).Run(); err == nil {
		t.Error("a wrong key passes: the check checks nothing")
	}
}

// checker builds a program that checks files with the parts that will read them.
// It is a module of its own, so that nametap depends on none of these.
func checker(t *testing.T, dir string) string {
	t.Helper()
	check := filepath.Join(t.TempDir(), "check")
	build := exec.Command("go", "build", "-o", check, ".")
	build.Dir = dir
	build.Env = os.Environ()
	if os.Getenv("NAMETAP_DOWNLOADS") == "" {
		build.Env = append(build.Env, "GOPROXY=off")
	}
	if out, err := build.CombinedOutput(); err != nil {
		if os.Getenv("NAMETAP_DOWNLOADS") != "" {
			t.Fatalf("%s: %v\n%s", dir, err, out)
		}
		t.Skipf("what %s needs is not at hand; NAMETAP_DOWNLOADS=1 has Go fetch it: %s", dir, firstLine(out))
	}
	return check
}

// TestContainerTools: BuildKit's parser and Compose's loader take what they will
// be given, and would object to what is wrong.
func TestContainerTools(t *testing.T) {
	check := checker(t, "container/check")
	for _, x := range []struct{ kind, file, found, word, wrong string }{
		{"containerfile", "container/Containerfile", "2 stages\n", "ENTRYPOINT", "ENTRYPIONT"},
		{"containerfile", "container/Containerfile", "2 stages\n", " AS build", " as build"},
		{"compose", "compose/compose.yaml", "5 services\n", "network_mode", "networkmode"},
	} {
		if out, err := exec.Command(check, x.kind, x.file).CombinedOutput(); err != nil || string(out) != x.found {
			t.Errorf("%s: %v\n%s", x.file, err, out)
		}
		text, err := os.ReadFile(x.file)
		if err != nil {
			t.Fatal(err)
		}
		wrong := filepath.Join(t.TempDir(), filepath.Base(x.file))
		if err := os.WriteFile(wrong, bytes.Replace(text, []byte(x.word), []byte(x.wrong), 1), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(check, x.kind, wrong).CombinedOutput(); err == nil {
			t.Errorf("%s with %q passes: the check checks nothing\n%s", x.file, x.wrong, out)
		}
	}
}

func firstLine(b []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
	return line
}

// TestPreview: the versions of the preview of the dashboards are exact, and its
// lock has just these. It is drawn in the end-to-end test, where it is installed.
func TestPreview(t *testing.T) {
	var manifest struct {
		Private      bool
		Dependencies map[string]string
	}
	var lock struct {
		Packages map[string]struct{ Version, Integrity string }
	}
	for file, into := range map[string]any{"package.json": &manifest, "package-lock.json": &lock} {
		text, err := os.ReadFile(filepath.Join("grafana/preview", file))
		if err == nil {
			err = json.Unmarshal(text, into)
		}
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
	}
	if !manifest.Private || len(manifest.Dependencies) == 0 {
		t.Error("the package is not private, or has no dependencies")
	}
	for name, version := range manifest.Dependencies {
		if locked := lock.Packages["node_modules/"+name]; !regexp.MustCompile(`^\d+\.\d+\.\d+$`).MatchString(version) || locked.Version != version {
			t.Errorf("%s: package.json has %s, the lock %s", name, version, locked.Version)
		}
	}
	for name, p := range lock.Packages {
		if name != "" && p.Integrity == "" {
			t.Errorf("%s is locked without its hash", name)
		}
	}
}

// drawDashboards has the preview draw all dashboards, where npm ci has installed
// it. No panel may be empty.
func drawDashboards(t *testing.T, ctx context.Context, addr string) {
	node, browser := lookPath(t, "node"), lookPath(t, "chromium")
	if _, err := os.Stat("grafana/preview/node_modules"); err != nil {
		t.Skip("the preview is not installed: npm ci in deploy/grafana/preview")
	}
	dir := t.TempDir()
	out, err := exec.CommandContext(ctx, node, "grafana/preview/shoot.mjs", "--prometheus", "http://"+addr, "--minutes", "2",
		"--rate-interval", "15s", "--chromium", browser, "--out", dir).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	pictures, err := filepath.Glob(filepath.Join(dir, "*.png"))
	if err != nil || len(pictures) != 6 {
		t.Errorf("%d pictures (%v)\n%s", len(pictures), err, out)
	}
}

// TestReadme: every file here is told of in README.md, with how it is tested.
func TestReadme(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() && (d.Name() == "node_modules" || d.Name() == "pictures") {
			return filepath.SkipDir // of grafana/preview, and not committed
		}
		if err != nil || d.IsDir() || path == "README.md" || strings.HasSuffix(path, "_test.go") || strings.HasSuffix(path, "go.sum") {
			return err
		}
		if bytes.Contains(text, []byte("`"+path+"`")) || bytes.Contains(text, []byte("`"+filepath.Dir(path)+"/`")) {
			return nil
		}
		t.Errorf("README.md does not tell of %s", path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
