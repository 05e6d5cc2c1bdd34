// Elements. Text is always text here: nothing that comes from a node is ever taken for markup.

const SVG = 'http://www.w3.org/2000/svg';

function fill(element, attributes, children) {
	for (const [name, value] of Object.entries(attributes ?? {})) {
		if (value === undefined || value === null || value === false) continue;
		if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
		else if (name === 'value' || name === 'checked' || name === 'selected') element[name] = value;
		else element.setAttribute(name, value === true ? '' : String(value));
	}
	element.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
	return element;
}

/** What these have unless they say otherwise. */
const USUAL = { button: { type: 'button' }, input: { autocomplete: 'off', spellcheck: 'false' } };

/** An element with attributes (`onclick` and the like are listeners) and children. */
export const h = (tag, attributes, ...children) => fill(document.createElement(tag), { ...USUAL[tag], ...attributes }, children);

/** The same for SVG. */
export const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
export const line = (d, kind) => s('path', { d, class: kind });
export const ring = (cx, cy, r, kind) => s('circle', { cx, cy, r, class: kind });
export const rect = (x, y, width, height, kind, ...children) => s('rect', { x, y, width, height, class: kind }, ...children);

/** What stands beside, less loud. */
export const soft = (...children) => h('span', { class: 'soft' }, ...children);
export const note = (...children) => h('p', { class: 'soft' }, ...children);

/** Sets a text, where it is another. */
export function text(element, value) {
	const now = String(value);
	if (element.textContent !== now) element.textContent = now;
}

/** Replaces the children. */
export function put(element, ...children) {
	element.replaceChildren(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
	return element;
}

/** Says something to those who cannot see it. */
export function say(message) {
	const place = document.getElementById('said') ?? document.body.appendChild(h('div', { id: 'said', class: 'unseen', role: 'status' }));
	place.textContent = message;
}

const hex = (char) => char.codePointAt(0).toString(16).toUpperCase().padStart(4, '0');

/**
 * A text as it may be shown: control characters, what would turn the direction of writing and what is not seen at all by
 * their numbers. `most` characters of it.
 */
export function shown(value, most = 400) {
	let out = String(value);
	const rest = out.length - most;
	if (rest > 0) out = out.slice(0, most);
	out = out
		.replace(/[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]/gu, (char) => `<${hex(char)}>`);
	return rest > 0 ? `${out}… (${count(rest)} more)` : out;
}

/** A number with spaces between thousands. */
export const count = (number) => String(number).replace(/\B(?=(\d{3})+(?!\d))/g, '\u202f');

/** `one` or `many`, with the number. */
export const many = (number, one, more = `${one}s`) => `${count(number)} ${number === 1 ? one : more}`;

/** Milliseconds for reading. */
export function ms(value) {
	if (value === null || value === undefined) return '–';
	if (value >= 86_400_000) return `${(value / 86_400_000).toFixed(1)} d`;
	if (value >= 3_600_000) return `${(value / 3_600_000).toFixed(1)} h`;
	if (value >= 60_000) return `${Math.floor(value / 60_000)} min ${Math.floor((value % 60_000) / 1000)} s`;
	if (value >= 1000) return `${(value / 1000).toFixed(value < 10_000 ? 1 : 0)} s`;
	if (value >= 100) return `${Math.round(value)} ms`;
	return `${value.toFixed(value < 10 ? 2 : 1)} ms`;
}

/** Bytes for reading. */
export function bytes(value) {
	if (value === null || value === undefined) return '–';
	const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
	let unit = 0;
	while (value >= 1024 && unit < units.length - 1) {
		value /= 1024;
		unit += 1;
	}
	return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}

/** The client address of a full id, its Raft address. */
export const client = (id) => id.split(',')[0];
export const raft = (id) => id.split(',')[1] ?? '';

/** Full ids in a sentence by their client addresses: the rest is known. */
export const brief = (sentence) => sentence.replace(/([\w.:[\]-]+:\d+),[\w.:[\]-]+:\d+/g, '$1');

/** As a sentence begins; a command stays as it is. */
export const capital = (sentence) => (/^(?!hraftd|curl)[a-z]+ /.test(sentence) ? sentence.charAt(0).toUpperCase() + sentence.slice(1) : sentence);

/** Flags of commands, which no line breaks. */
export const flags = (sentence) => sentence.split(/(--[\w-]+)/).map((part, at) => (at % 2 ? h('span', { class: 'num' }, part) : part));

/** The colour of a term: six, in turn. Its number stands beside it wherever it counts. */
export const hue = (term) => `t${Number(term) % 6}`;

/** A term, as a mark with its number. */
export const term = (number) => h('span', { class: `term ${hue(number)}` }, `term ${number}`);

/** The glyph of a role: its shape says it as well as its word. */
export function glyph(state) {
	const parts = {
		Leader: [s('path', { d: 'M8 1.5 14.5 8 8 14.5 1.5 8z', class: 'full' })],
		Follower: [s('circle', { cx: 8, cy: 8, r: 5.5 })],
		Candidate: [s('circle', { cx: 8, cy: 8, r: 5.5 }), s('path', { d: 'M8 2.5a5.5 5.5 0 0 1 0 11z', class: 'full' })],
		Learner: [s('circle', { cx: 8, cy: 8, r: 5.5, 'stroke-dasharray': '2.5 2' })],
		Lost: [s('path', { d: 'M3 3l10 10M13 3 3 13' })],
		Shutdown: [s('rect', { x: 3, y: 3, width: 10, height: 10 }), s('path', { d: 'M5 8h6' })],
	};
	return s('svg', { viewBox: '0 0 16 16', width: 16, height: 16, class: `glyph ${state}`, 'aria-hidden': 'true' }, parts[state] ?? parts.Lost);
}

/** A button that copies a text, and says so. */
export function copier(label, get) {
	const button = h('button', { class: 'quiet' }, label);
	button.addEventListener('click', async () => {
		const wanted = typeof get === 'function' ? get() : get;
		try {
			await navigator.clipboard.writeText(wanted);
			text(button, 'Copied');
			say('Copied');
		} catch {
			// Without TLS a browser may have no clipboard: the text is shown, selected, to be copied by hand.
			const field = h('textarea', { class: 'mono', rows: 3, readonly: true, 'aria-label': label }, wanted);
			button.after(field);
			field.focus();
			field.select();
			text(button, 'Press Ctrl+C');
		}
		setTimeout(() => text(button, label), 2000);
	});
	return button;
}

/** Asks before something is done; `said` are paragraphs that say what will happen. True where it was confirmed. */
export function confirm(title, said, verb, danger = true) {
	return new Promise((done) => {
		const close = (yes) => () => {
			dialog.close();
			dialog.remove();
			done(yes);
		};
		const id = `dialog-${Math.round(performance.now())}`;
		const dialog = h('dialog', { 'aria-labelledby': id, oncancel: close(false) },
			h('h2', { id }, title),
			said.map((line) => h('p', {}, line)),
			h('div', { class: 'buttons' },
				h('button', { class: danger ? 'danger' : 'main', onclick: close(true) }, verb),
				h('button', { onclick: close(false), autofocus: true }, 'Cancel')));
		document.body.append(dialog);
		dialog.showModal();
	});
}

/** What a view says while there is nothing to show. */
export const empty = (title, ...more) => h('div', { class: 'empty' }, h('p', { class: 'empty-title' }, title), more.map((line) => h('p', {}, line)));

/** The head of a table; `#` before a name is for numbers. */
export const heads = (names) => h('thead', {}, h('tr', {}, names.map((name) => h('th', { scope: 'col', class: name[0] === '#' ? 'num' : null }, name.replace(/^#/, '')))));

/** A table with a caption. */
export const table = (caption, names, rows) =>
	h('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': caption },
		h('table', {}, h('caption', { class: 'unseen' }, caption),
			heads(names),
			h('tbody', {}, rows)));
