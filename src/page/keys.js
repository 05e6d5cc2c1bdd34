// Keys: a tree by `/`, page by page, and one key with all that is known of it.

import { ask, follow, get, inPath, Lost, often, Refused, url } from './api.js';
import { bytes, confirm, copier, count, empty, h, many, ms, note, put, say, shown, soft, text } from './dom.js';
import { takeApart, Value } from './value.js';

const PAGE = 100;
const EVERY_MS = 4_000;

const q = encodeURIComponent;
const shellQuoted = (value) => `'${value.replaceAll("'", "'\\''")}'`;

/** Reads a key: `null` where it is not there. */
async function read(key, signal) {
	const answer = await ask(`hraftd/key/${inPath(key)}?meta`, { signal });
	if (answer.status === 404) return null;
	if (!answer.ok) throw new Refused(answer);
	return found(answer.text, key, signal);
}

async function found(body, key, signal) {
	const meta = takeApart(body);
	let isBytes = false;
	// Bytes are shown as an object; so might be JSON of the same form.
	if (/^\{"base64":"[^"]*"\}$/.test(meta.raw)) {
		const head = await ask(`hraftd/key/${inPath(key)}?raw`, { method: 'HEAD', signal });
		isBytes = !(head.headers.get('content-type') ?? '').startsWith('application/json');
	}
	return { ...meta, value: new Value(meta.raw, isBytes), readAt: performance.now() };
}

/** One level of the tree: what is directly below a prefix. It loads itself page by page. */
class Level {
	constructor(tree, prefix) {
		this.tree = tree;
		this.prefix = prefix;
		this.names = [];
		this.open = new Map();
		this.next = null;
		this.wanted = PAGE;
		this.root = h('ul');
	}

	async load() {
		const names = [];
		let after = null;
		let next = null;
		do {
			const answer = await get(`hraftd/key?prefix=${q(this.prefix)}&keys&separator=%2F&limit=${Math.min(1_000, this.wanted - names.length)}${after === null ? '' : `&after=${q(after)}`}`, { signal: this.tree.signal });
			names.push(...answer.json);
			after = names[names.length - 1];
			next = answer.headers.get('link') ? after : null;
		} while (next !== null && names.length < this.wanted);
		if (names.length === this.names.length && names.every((name, at) => name === this.names[at]) && next === this.next) {
			await Promise.all([...this.open.values()].map((level) => level.load()));
			return;
		}
		this.names = names;
		this.next = next;
		for (const name of this.open.keys()) if (!names.includes(name)) this.open.delete(name);
		await Promise.all([...this.open.values()].map((level) => level.load()));
		this.paint();
	}

	paint() {
		const items = this.names.map((name) => {
			const label = shown(name.slice(this.prefix.length), 120) || '(empty)';
			if (!name.endsWith('/') || name === this.prefix) {
				const isCurrent = name === this.tree.current;
				return h('li', {}, h('button', { class: 'node', 'aria-current': isCurrent ? 'true' : null, title: shown(name, 300), onclick: () => this.tree.select(name) }, h('span', { class: 'tw' }), h('span', {}, label)));
			}
			const level = this.open.get(name);
			return h('li', {}, h('button', { class: 'node', 'aria-expanded': level ? 'true' : 'false', onclick: () => this.toggle(name) }, h('span', { class: 'tw', 'aria-hidden': 'true' }, level ? '▾' : '▸'), h('span', {}, label)), level?.root);
		});
		const had = this.root.contains(document.activeElement) ? [...this.root.querySelectorAll('button')].indexOf(document.activeElement) : -1;
		put(this.root, items, this.next !== null && h('li', {}, h('button', { class: 'quiet', onclick: () => this.more() }, `Show ${PAGE} more after ${count(this.names.length)}`)));
		if (had >= 0) this.root.querySelectorAll('button')[had]?.focus({ preventScroll: true });
	}

	async toggle(name) {
		if (this.open.has(name)) {
			this.open.delete(name);
		} else {
			const level = new Level(this.tree, name);
			this.open.set(name, level);
			await this.tree.attempt(() => level.load());
		}
		this.paint();
	}

	async more() {
		this.wanted = this.names.length + PAGE;
		await this.tree.attempt(() => this.load());
	}
}

export function mount(root, context) {
	const { signal } = context;
	const search = h('input', { id: 'prefix', type: 'search', placeholder: 'all keys' });
	const counted = soft();
	const treeRoot = h('div', { class: 'tree' });
	const wrong = h('p', { class: 'wrong', role: 'alert' });
	const detail = h('section', { class: 'detail', 'aria-label': 'The key' });
	const tree = { signal, current: context.argument || null, level: null, select, attempt };

	put(root, h('div', { class: 'split' },
		h('section', { 'aria-label': 'Keys' },
			h('div', { class: 'head' }, h('h2', {}, 'Keys'), counted, h('button', { class: 'right', onclick: () => compose() }, 'New key')),
			h('label', { for: 'prefix' }, 'Begins with'), search, wrong, treeRoot),
		detail));

	async function attempt(work) {
		try {
			const result = await work();
			text(wrong, '');
			return result;
		} catch (error) {
			if (signal.aborted) return undefined;
			if (error instanceof Refused && (error.status === 401 || error.status === 403)) {
				// Grants may cover a part of the keys only: then the rest of the view goes on.
				text(wrong, error.status === 403 ? shown(error.message, 400) : '');
				return undefined;
			}
			if (error instanceof Lost || error instanceof Refused) text(wrong, shown(error.message, 400));
			else throw error;
			return undefined;
		}
	}

	let isFirst = true;
	async function relist() {
		await attempt(async () => {
			const level = tree.level;
			await level.load();
			const amount = (await get(`hraftd/key?prefix=${q(level.prefix)}&count`, { signal })).json.count;
			if (level !== tree.level) return;
			text(counted, many(amount, 'key'));
			if (amount === 0) {
				put(treeRoot, level.prefix === ''
					? empty('There are no keys yet', 'Make the first one with “New key”, or with curl:', `curl -X PUT ${url('hraftd/key/greeting').href} -d 'Hello, world'`)
					: empty('No key begins so', 'Prefixes are compared byte by byte, and upper case is not lower case.'));
			} else if (treeRoot.firstChild !== level.root) {
				put(treeRoot, level.root);
				level.paint();
			}
			if (isFirst && !tree.current && !key) put(detail, empty('Choose a key', 'Its value, its versions and its time to live are shown here, and follow every change.'));
			isFirst = false;
		});
	}

	async function begin(prefix) {
		tree.level = new Level(tree, prefix);
		await relist();
	}

	/** Opens the folders above a key. */
	async function unfold(name) {
		let level = tree.level;
		for (let at = name.indexOf('/') + 1; at > 0 && at < name.length; at = name.indexOf('/', at) + 1) {
			const folder = name.slice(0, at);
			if (!level.names.includes(folder)) return;
			if (!level.open.has(folder)) await level.toggle(folder);
			level = level.open.get(folder);
		}
	}

	let typing;
	search.addEventListener('input', () => {
		clearTimeout(typing);
		typing = setTimeout(() => begin(search.value), 250);
	});

	let key = null;
	let watching = null;
	let ticking = null;
	let editing = false;

	function stopWatching() {
		watching?.abort();
		clearInterval(ticking);
	}
	signal.addEventListener('abort', stopWatching);

	function select(name) {
		if (location.hash !== `#keys/${q(name)}`) window.history.pushState(null, '', `#keys/${q(name)}`);
		tree.current = name;
		tree.level?.paint();
		for (const level of levels(tree.level)) level.paint();
		open(name);
	}

	function* levels(level) {
		for (const inner of level?.open.values() ?? []) {
			yield inner;
			yield* levels(inner);
		}
	}

	async function open(name) {
		stopWatching();
		key = name;
		editing = false;
		if (name === '.' || name === '..') {
			put(detail, empty('A browser cannot ask for this key', 'It resolves such a path before it asks. curl --path-as-is can.'));
			return;
		}
		const stop = new AbortController();
		watching = stop;
		put(detail, h('h2', { class: 'key-name' }, shown(name, 5_000)), note('Reading…'));
		let is;
		try {
			is = await read(name, stop.signal);
		} catch (error) {
			if (stop.signal.aborted) return;
			if (!(error instanceof Lost || error instanceof Refused)) throw error;
			put(detail, h('h2', { class: 'key-name' }, shown(name, 5_000)), h('p', { class: 'wrong', role: 'alert' }, shown(error.message, 600)), h('button', { onclick: () => open(name) }, 'Try again'));
			return;
		}
		showKey(name, is);
		let position = null;
		const again = async () => {
			const now = await read(name, stop.signal).catch(() => undefined);
			if (stop.signal.aborted || now === undefined) return;
			const isOther = (now?.modify_index ?? 0) !== (is?.modify_index ?? 0);
			is = now;
			if (!isOther) return;
			if (editing) editing.changed(now);
			else showKey(name, now, true);
			say(now ? 'The key changed' : 'The key is gone');
		};
		follow(() => `hraftd/watch?key=${q(name)}${position ? `&after=${q(position)}` : ''}`, stop.signal, (event) => {
			if (event === null || event.event === 'compacted') {
				position = null;
				again();
				return;
			}
			if (event.id) position = event.id;
			if (['set', 'delete', 'expire'].includes(event.event)) again();
		}, (state) => {
			if (state === 'open' && position === null) again();
			if (state === 'refused') position = null;
		});
	}

	function showKey(name, is, flash = false) {
		clearInterval(ticking);
		if (!is) {
			put(detail, h('h2', { class: 'key-name' }, shown(name, 5_000)), empty('This key is not there', 'It was deleted, has expired, or never was. The page shows it as soon as somebody makes it.'),
				h('button', { onclick: () => compose(name) }, 'Make it'));
			return;
		}
		const { value } = is;
		const ways = value.kind === 'bytes' ? ['bytes', 'text'] : value.kind === 'text' ? ['text', 'json', 'bytes'] : ['json', 'text', 'bytes'];
		const place = h('div', {});
		const left = h('dd');
		const tabs = ways.map((way) => h('button', { role: 'tab', 'aria-selected': 'false', onclick: () => turn(way) }, { json: 'JSON', text: 'Text', bytes: 'Bytes' }[way]));
		function turn(way, all = false) {
			tabs.forEach((tab, at) => tab.setAttribute('aria-selected', ways[at] === way ? 'true' : 'false'));
			put(place, value.show(way, all), !all && value.isCut(way) && note(`The beginning of ${bytes(value.size)}. `, h('button', { class: 'quiet', onclick: () => turn(way, true) }, 'Show all of it')));
		}
		const tick = () => {
			const rest = is.ttl_ms - (performance.now() - is.readAt);
			text(left, rest > 0 ? ms(rest).replace(/^(\d+)\.\d s/, '$1 s') : 'is over; it goes with the next tick');
		};
		if (is.ttl_ms !== null) {
			tick();
			ticking = setInterval(tick, 1000);
		}
		const pair = (label, ...cells) => h('div', {}, h('dt', {}, label), cells.map((cell) => (cell instanceof Node ? cell : h('dd', {}, cell))));
		put(detail,
			h('h2', { class: `key-name ${flash ? 'flash' : ''}` }, shown(name, 5_000)),
			h('dl', { class: 'pairs' }, pair('version', count(is.version)), pair('changed at index', count(is.modify_index)), pair('made at', count(is.create_index)), pair('size', bytes(value.size)),
				pair('type', is.content_type ? shown(is.content_type, 120) : value.kind === 'json' ? 'JSON' : 'none'), is.ttl_ms !== null && pair('ends in', left), is.lease && pair('lease', is.lease)),
			h('div', { class: 'tabs' }, h('div', { role: 'tablist', 'aria-label': 'Ways to look at the value', class: 'buttons' }, tabs),
				h('span', { class: 'right buttons' }, copier('Copy as curl', () => `curl ${shellQuoted(url(`hraftd/key/${inPath(name)}?raw`).href)}`),
					value.editable !== null && h('button', { class: 'quiet', onclick: () => edit(name, is) }, 'Edit'),
					h('button', { class: 'quiet', onclick: () => destroy(name, is) }, 'Delete…'))),
			place);
		turn(ways[0]);
	}

	async function destroy(name, is) {
		if (!(await confirm('Delete this key?', [shown(name, 300), `It is deleted only if it still is as you see it, changed last at index ${is.modify_index}.`], 'Delete'))) return;
		const answer = await ask(`hraftd/key/${inPath(name)}`, { method: 'DELETE', headers: { 'If-Match': `"${is.modify_index}"` } }).catch((error) => ({ lost: error }));
		if (answer.ok) {
			say('Deleted');
			relist();
			return;
		}
		const now = answer.status === 412 ? await read(name, signal).catch(() => null) : undefined;
		if (now !== undefined) showKey(name, now, true);
		detail.append(h('p', { class: 'wrong', role: 'alert' }, answer.status === 412 ? 'It was not deleted: it changed meanwhile. This is what it is now.' : shown(answer.json?.msg ?? 'The node does not answer: it may or may not be deleted.', 500)));
	}

	const ttlOf = (is) => (is?.ttl_ms ? `${Math.max(1, Math.round(is.ttl_ms / 1000))}s` : '');

	/** The form of a key; `is` is what it was when it was opened, `null` for a new one. */
	function form(name, is) {
		const field = (id, label, input, hint) => h('div', {}, h('label', { for: id }, label), input, hint && note(hint));
		const nameField = h('input', { id: 'new-key', value: name ?? '', class: 'mono', required: true, maxlength: 4096 });
		const area = h('textarea', { id: 'new-value', spellcheck: 'false', rows: 12, value: is?.value.editable ?? '' });
		const kind = h('select', { id: 'new-kind' }, h('option', { value: 'text', selected: is?.value.kind !== 'json' }, 'Text'), h('option', { value: 'json', selected: is?.value.kind === 'json' }, 'JSON'));
		const ttl = h('input', { id: 'new-ttl', value: ttlOf(is), placeholder: 'for ever', pattern: '\\d+(ms|s|m|h)' });
		const trouble = h('p', { class: 'wrong', role: 'alert' });
		const conflict = h('div');
		let base = is;
		const finish = h('div', {}, h('div', { class: 'buttons' }, h('button', { type: 'submit', class: 'main' }, name && is ? 'Save' : 'Make it'),
			h('button', { onclick: cancel }, 'Cancel')),
		is && note(`Saved only if it still is as it was at index ${is.modify_index}. A time to live counts anew from then; without one the key stays for ever.`));
		function cancel() {
			editing = false;
			if (name) select(name);
			else put(detail, empty('Choose a key'));
		}

		async function save(event, over = base) {
			event?.preventDefault();
			text(trouble, '');
			const target = name ?? nameField.value;
			const isText = kind.value === 'text';
			const headers = { 'Content-Type': isText ? (over?.value.kind === 'text' && over.content_type) || 'text/plain; charset=utf-8' : 'application/json' };
			if (over) headers['If-Match'] = `"${over.modify_index}"`;
			else headers['If-None-Match'] = '*';
			const query = [!isText && 'json', ttl.value.trim() && `ttl=${q(ttl.value.trim())}`].filter(Boolean).join('&');
			let answer;
			try {
				answer = await ask(`hraftd/key/${inPath(target)}${query ? `?${query}` : ''}`, { method: 'PUT', headers, body: area.value });
			} catch (error) {
				if (!(error instanceof Lost)) throw error;
				text(trouble, 'The node did not answer. The write may have been done or not: the page shows what the key is once it answers.');
				return;
			}
			if (answer.ok) {
				say('Saved');
				editing = false;
				relist();
				select(target);
			} else if (answer.status === 412) {
				const now = await read(target, signal).catch(() => undefined);
				if (now !== undefined) clash(target, now);
			} else if (answer.status !== 401) {
				text(trouble, shown(answer.json?.msg ?? `It answers ${answer.status}.`, 600));
			}
		}

		function clash(target, now) {
			base = now;
			finish.hidden = true;
			put(conflict, h('section', { class: 'conflict', role: 'alert' },
				h('h3', {}, now ? (is ? 'Somebody changed this key while you edited it' : 'This key is there already') : 'This key was deleted, or has expired, while you edited it'),
				note('Nothing of yours is stored yet.'),
				h('div', { class: 'both' },
					h('div', {}, h('h3', {}, now ? `Theirs, at index ${now.modify_index}` : 'Theirs: nothing'), now && now.value.show(now.value.kind)),
					h('div', {}, h('h3', {}, 'Yours'), h('pre', { class: 'value card', tabindex: 0, 'aria-label': 'your value' }, area.value.slice(0, 8_000).split('\n').map((line) => shown(line, Infinity)).join('\n')))),
				h('div', { class: 'buttons' },
					h('button', { class: 'main', onclick: () => save(null, now) }, now ? 'Replace theirs with yours' : 'Store yours'),
					h('button', { onclick: () => select(target) }, now ? 'Keep theirs, discard mine' : 'Leave it, discard mine')),
				h('p', { class: 'soft after' }, 'Replacing it counts only if it has not changed once more.')));
		}

		put(detail, h('form', { class: 'editor', onsubmit: save },
			name ? h('h2', { class: 'key-name' }, shown(name, 5_000)) : [h('h2', {}, 'A new key'), field('new-key', 'Key', nameField)],
			h('p', {}),
			field('new-value', 'Value', area),
			h('p', {}),
			h('div', { class: 'fields' }, field('new-kind', 'Stored as', kind), field('new-ttl', 'Time to live, as 30s, 5m, 24h', ttl)),
			trouble, conflict,
			finish));
		(name ? area : nameField).focus();
		return { changed: (now) => (now?.modify_index ?? 0) !== (base?.modify_index ?? 0) && clash(name, now) };
	}

	function edit(name, is) {
		clearInterval(ticking);
		editing = form(name, is);
	}

	function compose(name = null) {
		if (!name) stopWatching();
		editing = form(name, null);
	}

	begin('').then(() => tree.current && unfold(tree.current));
	if (tree.current) open(tree.current);
	else put(detail, note(' '));
	often(EVERY_MS, signal, async () => {
		if (!isFirst) await relist();
	});
	return { move: (argument) => argument && argument !== key && select(argument) };
}
