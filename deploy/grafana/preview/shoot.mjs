// Takes pictures of the committed dashboards: node shoot.mjs --help
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import * as esbuild from 'esbuild';
import { chromium } from 'playwright-core';

const here = dirname(fileURLToPath(import.meta.url));
const usage = `Draws nametap's dashboards with Grafana's own components.

  node shoot.mjs --prometheus http://127.0.0.1:9090 [--record answers.json]
  node shoot.mjs --recording answers.json

  --out DIR          write pictures here (pictures)
  --minutes N        how far back (360)
  --end SECONDS      Unix time of the right edge (now)
  --rate-interval D  what $__rate_interval stands for (1m)
  --width N          width of the window in pixels (1500)
  --light            light theme
  --only NAME        one dashboard, such as nametap-tap
  --chromium PATH    the browser (/usr/bin/chromium)
`;

const { values: o } = parseArgs({
  options: {
    prometheus: { type: 'string' },
    recording: { type: 'string' },
    record: { type: 'string' },
    out: { type: 'string', default: 'pictures' },
    minutes: { type: 'string', default: '360' },
    end: { type: 'string' },
    'rate-interval': { type: 'string', default: '1m' },
    width: { type: 'string', default: '1500' },
    light: { type: 'boolean', default: false },
    only: { type: 'string' },
    chromium: { type: 'string', default: '/usr/bin/chromium' },
    help: { type: 'boolean', default: false },
  },
});
if (o.help || !o.prometheus === !o.recording) {
  console.log(usage);
  process.exit(o.help ? 0 : 2);
}

const boards = join(here, '../dashboards');
const laid = (dashboard) => dashboard.panels.flatMap((p) => [p, ...(p.panels ?? [])]);

// fill puts in what Grafana does when a dashboard is opened.
const chosen = ({ current, allValue }) => ([current?.value].flat().includes('$__all') ? allValue : [current?.value].flat().join('|'));
const fill = (expr, dashboard) =>
  dashboard.templating.list.reduce(
    (text, v) => text.replaceAll('$' + v.name, chosen(v)),
    expr.replaceAll('$__rate_interval', o['rate-interval']),
  );
const stepOf = (from, to) => Math.max(1, Math.ceil((to - from) / 400));

// ask runs every query of a dashboard.
async function ask(dashboard, from, to) {
  const answers = [];
  for (const [i, panel] of laid(dashboard).entries()) {
    for (const target of panel.targets ?? []) {
      const query = new URLSearchParams({
        query: fill(target.expr, dashboard),
        start: String(from),
        end: String(to),
        step: String(stepOf(from, to)),
      });
      const reply = await (await fetch(`${o.prometheus}/api/v1/query_range`, { method: 'POST', body: query })).json();
      if (reply.status !== 'success') throw new Error(`${dashboard.title} / ${panel.title}: ${reply.error}`);
      answers[i] = { ...answers[i], [target.refId]: reply.data.result };
    }
  }
  return answers;
}

async function record() {
  if (o.recording) return JSON.parse(readFileSync(o.recording));
  const to = Number(o.end ?? Math.floor(Date.now() / 1000));
  const from = to - 60 * Number(o.minutes);
  const answers = {};
  for (const file of readdirSync(boards)) {
    answers[file] = await ask(JSON.parse(readFileSync(join(boards, file))), from, to);
  }
  const recording = { from, to, answers };
  if (o.record) writeFileSync(o.record, JSON.stringify(recording));
  return recording;
}

// bundle makes one script of the page and Grafana's components.
async function bundle() {
  const built = await esbuild.build({
    entryPoints: [join(here, 'page.jsx')],
    bundle: true,
    write: false,
    format: 'esm',
    target: 'es2022',
    jsx: 'automatic',
    minify: true,
    logLevel: 'error',
    outdir: 'unused',
    loader: { '.svg': 'dataurl', '.png': 'dataurl', '.woff': 'dataurl', '.woff2': 'dataurl', '.ttf': 'dataurl' },
    define: { 'process.env.NODE_ENV': '"production"', global: 'window' },
  });
  const text = (end) => built.outputFiles.filter((f) => f.path.endsWith(end)).map((f) => f.text).join('\n');
  const html = '<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="page.css"><div id="root"></div><script type="module" src="page.js"></script>';
  return { html, script: text('.js'), style: text('.css') };
}

async function shoot(browser, code, file, recording) {
  const context = await browser.newContext({ viewport: { width: Number(o.width), height: 900 } });
  const page = await context.newPage();
  page.on('pageerror', (e) => {
    console.error(`${file}: ${e.message}`);
    process.exitCode = 1;
  });
  await page.addInitScript((given) => { window.preview = given; }, {
    dashboard: JSON.parse(readFileSync(join(boards, file))),
    answers: recording.answers[file],
    from: recording.from,
    to: recording.to,
    step: stepOf(recording.from, recording.to),
    mode: o.light ? 'light' : 'dark',
  });
  // Nothing is fetched: what the page asks for is answered here.
  await page.route('**', (route) => {
    const path = new URL(route.request().url()).pathname;
    const known = { '/': ['text/html', code.html], '/page.js': ['text/javascript', code.script], '/page.css': ['text/css', code.style] }[path];
    return known ? route.fulfill({ contentType: known[0], body: known[1] }) : route.fulfill({ status: 404 });
  });
  await page.goto('http://preview.invalid/');
  await page.waitForFunction(() => document.querySelector('#root h1') !== null);
  await page.waitForTimeout(1500); // plots are drawn after the first layout
  const empty = await page.locator('.empty').count();
  const picture = join(o.out, `${basename(file, '.json')}${o.light ? '-light' : ''}.png`);
  await page.screenshot({ path: picture, fullPage: true });
  console.log(`${picture}${empty ? `: ${empty} panels without data` : ''}`);
  if (empty) process.exitCode = 1;
  await context.close();
}

const recording = await record();
const code = await bundle();
mkdirSync(o.out, { recursive: true });
const browser = await chromium.launch({
  executablePath: o.chromium,
  args: [
    '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync',
  ],
});
try {
  for (const file of readdirSync(boards)) {
    if (!o.only || file === `${o.only}.json`) await shoot(browser, code, file, recording);
  }
} finally {
  await browser.close();
}
