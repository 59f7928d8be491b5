/** The page of `status-page.ts`: no library, nothing from elsewhere; all that changes comes by `/events`. */
const HTML = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Traffic Share on this device</title>
<link rel="icon" href="/icon.svg">
<link rel="stylesheet" href="/page.css">
<script src="/page.js" defer></script>
</head>
<body>
<main>
<h1>Traffic Share on this device</h1>
<p id="state" class="state" role="status" aria-live="polite">Connecting to the agent …</p>
<p id="why"></p>
<p id="todo"></p>
<div class="buttons" id="buttons" hidden>
<button id="resume" type="button">Resume</button>
<button id="pause" type="button">Pause</button>
<button id="pause-hour" type="button">Pause for an hour</button>
</div>
<p id="problem" class="problem" role="alert"></p>
<dl id="figures" hidden>
<dt>Speed</dt><dd id="speed"></dd>
<dt>Today</dt><dd id="today"></dd>
<dt>This month</dt><dd id="month"></dd>
<dt>Earned today</dt><dd id="earned-today"></dd>
<dt>Earned this month</dt><dd id="earned-month"></dd>
<dt>Balance</dt><dd id="balance"></dd>
<dt>Network</dt><dd id="network"></dd>
<dt>Version</dt><dd id="version"></dd>
</dl>
</main>
</body>
</html>
`;

const CSS = `:root { color-scheme: light dark; --fg: #1b1b1f; --bg: #fafafc; --soft: #5d5d68; --line: #d9d9e0;
  --good: #1a7f37; --warn: #9a6700; --bad: #b3261e; --button: #2f5bd0; }
@media (prefers-color-scheme: dark) { :root { --fg: #ececf1; --bg: #17171b; --soft: #a5a5b2; --line: #3a3a44;
  --good: #56d364; --warn: #e3b341; --bad: #ff7b72; --button: #3f6bdf; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--bg); color: var(--fg); font: 1rem/1.5 system-ui, sans-serif; }
main { max-width: 34rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.15rem; font-weight: 600; margin: 0 0 1rem; color: var(--soft); }
p { margin: 0 0 .5rem; overflow-wrap: anywhere; }
.state { font-size: 1.6rem; font-weight: 650; line-height: 1.25; }
.state.good { color: var(--good); } .state.warn { color: var(--warn); } .state.bad, .problem { color: var(--bad); }
.buttons { display: flex; flex-wrap: wrap; gap: .5rem; margin: 1rem 0; }
.buttons[hidden], dl[hidden], button[hidden] { display: none; }
button { font: inherit; min-height: 2.75rem; padding: .5rem 1.1rem; border: 0; border-radius: .5rem; color: #fff;
  background: var(--button); cursor: pointer; }
button:focus-visible { outline: 3px solid var(--fg); outline-offset: 2px; }
button:disabled { opacity: .5; cursor: default; }
dl { display: grid; grid-template-columns: minmax(8rem, auto) 1fr; margin: 1.25rem 0 0; border-top: 1px solid var(--line); }
dt, dd { margin: 0; padding: .5rem 0; border-bottom: 1px solid var(--line); }
dt { color: var(--soft); padding-right: 1rem; } dd { font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
`;

const ICON =
  '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><circle cx="8" cy="8" r="7" fill="#2f5bd0"/><path d="M5 6h6L9 4m2 6H5l2 2" stroke="#fff" fill="none"/></svg>';

const SCRIPT = `'use strict';
// The key came in the fragment: kept for this tab, and taken out of the address
const given = location.hash.slice(1);
if (given) {
  sessionStorage.setItem('key', given);
  history.replaceState(null, '', location.pathname);
}
const key = sessionStorage.getItem('key') || '';
const $ = (id) => document.getElementById(id);
const set = (id, text) => { if ($(id).textContent !== text) $(id).textContent = text; };
const UNITS = ['B', 'kB', 'MB', 'GB', 'TB'];
function bytes(n) {
  let unit = 0;
  while (n >= 999.95 && unit < UNITS.length - 1) { n /= 1000; unit++; }
  return (unit === 0 ? n : n.toFixed(1)) + ' ' + UNITS[unit];
}
const used = (period) => bytes(period.bytes) + (period.cap_bytes === null ? '' : ' of ' + bytes(period.cap_bytes));
// Cents, and more digits only where there are some
const dollars = (amount) => '$' + amount.replace(/(\\.\\d\\d\\d*?)0+$/, '$1');
const PAUSED = { owner: 'Paused by you', hours: 'Paused: outside your hours', wifi_only: 'Paused: not on Wi-Fi',
  charging_only: 'Paused: not on mains power', cap_reached: 'Paused: your data cap is used up' };
const STATES = { online: 'Connected', starting: 'Connecting …', connecting: 'Connecting …', waiting: 'Waiting to connect again',
  refused: 'Refused for its network', ended: 'Ended' };
function show(s) {
  const paused = s.paused && (PAUSED[s.paused.by] || 'Paused');
  const earns = Boolean(s.device && s.device.earns && !paused && s.state === 'online');
  const until = s.paused && s.paused.until ? ' until ' + new Date(s.paused.until).toLocaleTimeString() : '';
  set('state', paused ? paused + until : earns ? 'Sharing and earning' : STATES[s.state] || s.state);
  $('state').className = 'state ' + (paused ? 'warn' : earns ? 'good' : s.state === 'refused' ? 'bad' : '');
  const trouble = s.state !== 'online' && s.trouble;
  set('why', trouble ? s.trouble.text : s.device && !paused ? s.device.what : '');
  set('todo', trouble || !s.device || paused ? '' : s.device.todo + (s.device.detail ? ' (' + s.device.detail + ')' : ''));
  set('speed', bytes(s.bytes_per_second) + '/s, ' + s.streams_open + (s.streams_open === 1 ? ' connection' : ' connections'));
  set('today', used(s.today));
  set('month', used(s.month));
  const e = s.earnings;
  set('earned-today', e ? dollars(e.today) : '–');
  set('earned-month', e ? dollars(e.month) : '–');
  set('balance', e ? dollars(e.available) + (Number(e.pending) ? ', pending ' + dollars(e.pending) : '') : '–');
  set('network', s.network);
  set('version', s.version + (s.latest_version ? ' (' + s.latest_version + ' is available)' : ''));
  const byOwner = Boolean(s.paused && s.paused.by === 'owner');
  $('resume').hidden = !byOwner;
  $('pause').hidden = $('pause-hour').hidden = byOwner;
  $('buttons').hidden = $('figures').hidden = false;
}
async function ask(path, body) {
  const response = await fetch(path, { method: 'POST', body: JSON.stringify(body),
    headers: { authorization: 'Bearer ' + key, 'content-type': 'application/json' } });
  if (!response.ok) throw new Error(await response.text());
  show(await response.json());
}
for (const [id, path, body] of [['pause', '/pause', {}], ['pause-hour', '/pause', { for_ms: 3600000 }], ['resume', '/resume', {}]])
  $(id).addEventListener('click', async () => {
    $(id).disabled = true;
    set('problem', '');
    await ask(path, body).catch((error) => set('problem', error.message));
    $(id).disabled = false;
  });
// EventSource can send no header, so the events are read from a fetch
async function follow() {
  const response = await fetch('/events', { headers: { authorization: 'Bearer ' + key } });
  if (response.status === 401) { set('state', 'Open this page by the address that "traffic-share agent status" shows.'); return false; }
  if (!response.ok) throw new Error(await response.text());
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return true;
    text += value;
    for (let end; (end = text.indexOf('\\n\\n')) >= 0; text = text.slice(end + 2)) {
      set('problem', '');
      show(JSON.parse(text.slice(6, end)));
    }
  }
}
(async () => {
  for (;;) {
    const again = await follow().catch(() => true);
    if (!again) return;
    set('state', 'The agent does not run.');
    $('state').className = 'state bad';
    set('why', ''); set('todo', '');
    $('buttons').hidden = $('figures').hidden = true;
    await new Promise((resolve) => setTimeout(resolve, 2000));
  }
})();
`;

/** By path. */
export const PAGE_FILES: Readonly<Record<string, { readonly type: string; readonly text: string }>> = {
  '/': { type: 'text/html; charset=utf-8', text: HTML },
  '/page.css': { type: 'text/css; charset=utf-8', text: CSS },
  '/page.js': { type: 'text/javascript; charset=utf-8', text: SCRIPT },
  '/icon.svg': { type: 'image/svg+xml', text: ICON },
};
