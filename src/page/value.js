// A stored value as it may be looked at. JSON is taken as text throughout: numbers keep all their digits.

import { h, shown } from './dom.js';

const TOKEN = /"(?:\\.|[^"\\])*"|[{}[\],:]|[^\s{}[\],:"]+/g;

/** So much of a value is shown at once. */
export const PART = 64 * 1024;

/** The parts of the answer to `?meta`, with the value's own text. */
export function takeApart(text) {
	const from = text.indexOf(',"value":') + 9;
	const to = text.lastIndexOf(',"version":');
	const meta = JSON.parse(`${text.slice(0, from)}null${text.slice(to)}`);
	return { ...meta, raw: text.slice(from, to) };
}

/** JSON text, laid out. */
export function pretty(raw) {
	let depth = 0;
	let out = '';
	let before = '';
	for (const [token] of raw.matchAll(TOKEN)) {
		const isEnd = token === '}' || token === ']';
		if (isEnd) depth -= 1;
		if (before === '{' || before === '[') out += isEnd ? '' : `\n${'  '.repeat(depth)}`;
		else if (before === ',' || isEnd) out += `\n${'  '.repeat(depth)}`;
		else if (before === ':') out += ' ';
		out += token;
		if (token === '{' || token === '[') depth += 1;
		before = token;
	}
	return out;
}

/** Laid-out JSON with its kinds marked. */
function coloured(text) {
	const out = [];
	let last = 0;
	for (const match of text.matchAll(TOKEN)) {
		const [token] = match;
		const isText = token[0] === '"';
		const isKey = isText && text[match.index + token.length] === ':';
		const kind = isKey ? 'k' : isText ? 's' : /^[-\d]/.test(token) ? 'n' : /^[a-z]/.test(token) ? 'w' : null;
		if (!kind) continue;
		out.push(plain(text.slice(last, match.index)), h('span', { class: kind }, plain(token)));
		last = match.index + token.length;
	}
	out.push(plain(text.slice(last)));
	return out;
}

/** Text whose lines stay lines, and whose other control characters are seen. */
const plain = (text) => text.split(/(\n|\t)/).map((part) => (part === '\n' || part === '\t' ? part : shown(part, Infinity))).join('');

function inHex(bytes) {
	const lines = [];
	for (let at = 0; at < bytes.length; at += 16) {
		const row = [...bytes.subarray(at, at + 16)];
		const codes = row.map((byte) => byte.toString(16).padStart(2, '0')).join(' ').padEnd(47);
		const chars = row.map((byte) => (byte >= 32 && byte < 127 ? String.fromCharCode(byte) : '·')).join('');
		lines.push(`${at.toString(16).padStart(8, '0')}  ${codes}  ${chars}`);
	}
	return lines.join('\n');
}

const decoded = (base64) => Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));

/** A value: `kind` is `json`, `text` or `bytes`. */
export class Value {
	constructor(raw, isBytes) {
		this.raw = raw;
		if (isBytes) {
			this.kind = 'bytes';
			this.bytes = decoded(JSON.parse(raw).base64);
		} else if (raw.startsWith('"')) {
			this.kind = 'text';
			this.text = JSON.parse(raw);
		} else {
			this.kind = 'json';
		}
	}

	/** Its size as it was given. */
	get size() {
		return this.kind === 'bytes' ? this.bytes.length : new TextEncoder().encode(this.text ?? this.raw).length;
	}

	/** As text that can be edited and put back; `null` for bytes. */
	get editable() {
		return this.kind === 'bytes' ? null : (this.text ?? (this.raw.length > PART ? this.raw : pretty(this.raw)));
	}

	/** In one of the ways to look at it. */
	show(way, all = false) {
		const most = all ? Infinity : PART;
		let text;
		let nodes = null;
		if (way === 'bytes') {
			const bytes = this.bytes ?? new TextEncoder().encode(this.text ?? this.raw);
			text = inHex(all ? bytes : bytes.subarray(0, most / 4));
		} else if (way === 'json') {
			text = this.raw.length > most ? this.raw.slice(0, most) : pretty(this.raw);
			if (this.raw.length <= PART) nodes = coloured(text);
		} else {
			text = this.kind === 'bytes' ? new TextDecoder().decode(this.bytes) : (this.text ?? this.raw);
			text = text.length > most ? text.slice(0, most) : text;
		}
		return h('pre', { class: 'value card', tabindex: 0, 'aria-label': `value as ${way}`, dir: 'ltr' }, nodes ?? plain(text));
	}

	isCut(way) {
		const length = way === 'bytes' ? this.size * 4 : this.raw.length;
		return length > PART;
	}
}
