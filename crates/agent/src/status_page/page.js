'use strict';
{
// The browser keeps the history: the last values of each drawing, by its key. null is a value that was not known.
const KEPT = 60;
const past = new Map(), age = document.getElementById('age'), main = () => document.querySelector('main');
let taken, takenAt = NaN, timer, asked = -Infinity, rendered = NaN, failed = 0, error = '';

function remember(values, value) {
  values.push(value);
  if (values.length > KEPT) values.shift();
}

// Takes the values of a sample into the history, once, and draws it.
function draw(shown) {
  const isNew = shown.dataset.t !== taken, seen = new Set();
  // Where samples were missed, as while the page was hidden, the line is broken.
  const isLate = performance.now() - takenAt > 3000 * Math.max(2, shown.dataset.i);
  taken = shown.dataset.t;
  if (isNew) takenAt = performance.now();
  for (const svg of shown.querySelectorAll('.spark')) {
    const { k: key, v: value, m: limit } = svg.dataset;
    const values = past.get(key) || [];
    seen.add(key);
    past.set(key, values);
    if (isNew && isLate) remember(values, null);
    if (isNew) remember(values, +value);
    const top = limit ? +limit : Math.max(...values, 0) * 1.1 || 1;
    let line = '', step = 'M';
    values.forEach((value, index) => {
      if (value === null) { step = 'M'; return; }
      const x = KEPT - values.length + index, y = 19 - 18 * Math.min(1, Math.max(0, value / top));
      line += step + x + ' ' + y.toFixed(1) + (step === 'M' ? 'h0' : '');
      step = 'L';
    });
    svg.firstElementChild.setAttribute('d', line);
  }
  if (isNew) for (const [key, values] of past) {
    if (seen.has(key)) continue;
    remember(values, null);
    if (values.every(value => value === null)) past.delete(key);
  }
}

// Makes one tree equal to another one, and leaves alone what is equal: selection, focus and scrolling stay.
function morph(old, now) {
  if (old.isEqualNode(now)) return;
  if (old.nodeType !== 1 || old.nodeName !== now.nodeName || old.childNodes.length !== now.childNodes.length) {
    old.replaceWith(now);
    return;
  }
  for (const { name, value } of now.attributes) old.setAttribute(name, value);
  for (const { name } of [...old.attributes]) if (!now.hasAttribute(name)) old.removeAttribute(name);
  const children = [...now.childNodes];
  [...old.childNodes].forEach((child, index) => morph(child, children[index]));
}

function show() {
  const seconds = Math.round((performance.now() - rendered) / 1000), { s: limit } = main().dataset;
  const isOld = seconds > limit, old = 'these values are ' + seconds + ' s old';
  age.className = isOld || failed ? 'bad' : 'quiet';
  age.textContent = failed ? 'No answer from the agent (' + error + ')' + (isNaN(seconds) ? '' : '; ' + old)
    : isOld ? 'The agent’s loop is stuck: ' + old : 'Updated ' + seconds + ' s ago';
}

// Never faster than the devices are sampled, and not while the page is hidden.
function plan() {
  clearTimeout(timer);
  if (document.hidden) return;
  const interval = Math.max(2, main().dataset.i), wait = Math.min(Math.max(60, interval), interval * 2 ** failed);
  timer = setTimeout(update, Math.max(0, asked + 1000 * wait - performance.now()));
}

async function update() {
  asked = performance.now();
  try {
    const response = await fetch('live.html', { cache: 'no-store', signal: AbortSignal.timeout(10000) });
    if (!response.ok) throw new Error('status ' + response.status);
    const text = await response.text();
    rendered = performance.now() - 1000 * response.headers.get('age');
    const now = new DOMParser().parseFromString(text, 'text/html').querySelector('main');
    draw(now);
    morph(main(), now);
    failed = 0;
  } catch (reason) {
    failed += 1;
    error = reason.message;
  }
  show();
  plan();
}

document.documentElement.className = 'js';
draw(main());
plan();
setInterval(() => document.hidden || isNaN(rendered) && !failed || show(), 1000);
document.addEventListener('visibilitychange', plan);
}
