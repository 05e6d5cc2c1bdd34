// Live changes of a prefix, and the locks that are held.

import { follow, get, often, Refused } from './api.js';
import { count, empty, h, heads, many, ms, put, shown, soft, table, text } from './dom.js';

/** So many changes are shown; older ones go. */
const SHOWN = 200;
const LOCKS = 200;
const EVERY_MS = 2_000;

const clock = () => new Date().toTimeString().slice(0, 8);

export function mount(root, context) {
	const { signal } = context;
	const prefix = h('input', { id: 'watch-prefix', type: 'search', value: context.argument, placeholder: 'all keys' });
	const button = h('button', {}, 'Pause');
	const said = h('span', { class: 'soft', role: 'status' });
	const wrong = h('p', { class: 'wrong', role: 'alert' });
	const rows = h('tbody');
	const feed = h('div', { class: 'feed', tabindex: 0, role: 'region', 'aria-label': 'Changes' });
	const locks = h('div');
	const counted = soft();
	const grid = h('table', {}, h('caption', { class: 'unseen' }, 'Changes, the newest first'), heads(['Time', 'What', 'Key', 'Value', '#Index']), rows);

	put(root,
		h('section', {}, h('div', { class: 'head' }, h('h2', {}, 'Changes'), said),
			h('form', { class: 'buttons line', onsubmit: (event) => { event.preventDefault(); begin(); } },
				h('div', {}, h('label', { for: 'watch-prefix' }, 'Keys that begin with'), prefix), h('button', { type: 'submit', class: 'main' }, 'Watch'), button),
			wrong, feed),
		h('section', {}, h('div', { class: 'head' }, h('h2', {}, 'Locks'), counted), locks));

	let stop = null;
	let isPaused = false;
	let total = 0;
	let waiting = [];

	const row = (change) => h('tr', { class: 'flash' }, h('td', { class: 'mono' }, change.time), h('td', {}, h('span', { class: `op ${change.event}` }, change.event), change.by ? soft(` by ${shown(change.by, 64)}`) : null),
		h('td', { class: 'mono' }, h('a', { href: `#keys/${encodeURIComponent(change.key)}` }, shown(change.key, 160))), h('td', { class: 'v' }, change.value === undefined ? '' : shown(change.value, 200)), h('td', { class: 'num' }, count(change.index)));

	function flush() {
		flush.timer = null;
		if (isPaused) return;
		const now = waiting.slice(-SHOWN);
		waiting = [];
		rows.prepend(...now.reverse().map(row));
		while (rows.childElementCount > SHOWN) rows.lastElementChild.remove();
		if (rows.childElementCount > 0 && feed.firstChild !== grid) put(feed, grid);
		text(said, `${many(total, 'change')} since ${begin.at}${total > SHOWN ? `; the newest ${SHOWN} are shown` : ''}`);
	}

	function begin() {
		stop?.abort();
		stop = new AbortController();
		const wanted = prefix.value;
		total = 0;
		waiting = [];
		begin.at = clock();
		put(rows);
		text(wrong, '');
		text(said, '');
		const none = empty('Nothing has changed yet', `${wanted === '' ? 'Every change of any key from now on' : `Whatever begins with “${shown(wanted, 80)}” and changes from now on`} is shown here. Nothing is missed, and nothing comes twice.`);
		put(feed, none);
		let position = null;
		follow(() => `hraftd/watch?prefix=${encodeURIComponent(wanted)}${position ? `&after=${encodeURIComponent(position)}` : ''}`, stop.signal, (event) => {
			if (event === null) return;
			if (event.id) position = event.id;
			if (event.event === 'compacted') {
				position = null;
				text(wrong, 'Some changes are missing here: they came faster than this page took them.');
				return;
			}
			if (event.event === 'unauthorized') {
				text(wrong, 'The token that this page used may not watch any more.');
				return;
			}
			if (!['set', 'delete', 'expire'].includes(event.event)) return;
			total += 1;
			waiting.push({ ...event, time: clock(), value: event.value === undefined ? undefined : JSON.stringify(event.value).slice(0, 400) });
			if (waiting.length > SHOWN * 2) waiting = waiting.slice(-SHOWN);
			flush.timer ??= setTimeout(flush, 100);
		}, (state, error) => {
			if (state === 'refused') {
				position = error.code === 'compacted' ? null : position;
				if (error.status !== 401) text(wrong, shown(error.message, 400));
				if (error.status === 403 || error.status === 400) stop.abort();
				// Nothing will be shown here while it is refused.
				none.hidden = true;
			} else if (state === 'open') {
				text(wrong, '');
				none.hidden = false;
			}
		});
	}

	button.addEventListener('click', () => {
		isPaused = !isPaused;
		button.classList.toggle('on', isPaused);
		text(button, isPaused ? 'Go on' : 'Pause');
		if (!isPaused) flush();
	});
	signal.addEventListener('abort', () => stop?.abort());

	let held = [];
	let readAt = 0;
	const left = new Map();

	function tick() {
		for (const [name, cell] of left) {
			const lock = held.find((one) => one.name === name);
			if (lock && lock.ttl_ms !== null) text(cell, ms(Math.max(0, lock.ttl_ms - (performance.now() - readAt))).replace(/^(\d+)\.\d s/, '$1 s'));
		}
	}
	const timer = setInterval(tick, 500);
	signal.addEventListener('abort', () => clearInterval(timer));

	often(EVERY_MS, signal, async () => {
		let answer;
		try {
			answer = await get(`hraftd/lock?prefix=&limit=${LOCKS}`, { signal });
		} catch (error) {
			if (error instanceof Refused && error.status !== 401) put(locks, h('p', { class: 'wrong' }, shown(error.message, 400)));
			throw error;
		}
		held = answer.json;
		readAt = performance.now();
		text(counted, held.length === 0 ? '' : `${count(held.length)} held${answer.headers.get('link') ? ', and more' : ''}`);
		left.clear();
		if (held.length === 0) {
			put(locks, empty('Nobody holds a lock', 'A lock has one holder at a time, a token that only grows, and a queue of those who wait.'));
			return;
		}
		put(locks, table('Locks that are held', ['Lock', 'Holder', '#Token', '#Ends in', '#Waiting'], held.map((lock) => {
				const ends = h('td', { class: 'num' }, lock.ttl_ms === null ? `with lease ${lock.lease ?? ''}` : '');
				left.set(lock.name, ends);
				return h('tr', {}, h('th', { scope: 'row', class: 'mono' }, shown(lock.name, 160)), h('td', { class: 'mono' }, lock.body === null || lock.body === undefined ? '–' : shown(JSON.stringify(lock.body), 160)), h('td', { class: 'num' }, count(lock.token)), ends, h('td', { class: 'num' }, lock.waiting > 0 ? many(lock.waiting, 'waiter') : 'nobody'));
			})));
		tick();
	});

	begin();
	return { move: (argument) => { prefix.value = argument; begin(); } };
}
