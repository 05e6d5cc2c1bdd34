// A write, taken apart: where the time of a request went, and when its entry came how far.

import { ask, get, inPath, Lost, Refused } from './api.js';
import { client, count, empty, h, line, ms, note, put, s, say, shown, soft, table, text } from './dom.js';

const PARTS = ['parse', 'forward', 'wait', 'propose', 'flush', 'quorum', 'apply'];

const SAYS = {
	parse: 'from the head of the request to a command',
	forward: 'the hop to the leader and back',
	wait: 'its turn: the batch before it',
	propose: 'handed to the leader’s log',
	flush: 'on the leader’s disk',
	quorum: 'until a majority had it; 0 if that came first',
	apply: 'applied, and answered',
};

/** `Server-Timing`, by name. */
function timingOf(header) {
	const parts = {};
	for (const item of (header ?? '').split(',')) {
		const [name, duration] = item.trim().split(';dur=');
		if (duration !== undefined) parts[name] = Number(duration);
	}
	return parts;
}

/** A picture of bars on one scale of milliseconds: `rows` are `{name, bars: [[from, to, class]], note}`, `edges` are `[at, name]`. */
function fall(label, rows, edges, width) {
	const left = Math.min(190, Math.max(110, width * 0.22));
	const right = 92;
	const end = Math.max(0.01, ...rows.flatMap((row) => row.bars.map(([, to]) => to)), ...edges.map(([at]) => at));
	const x = (at) => left + (at / end) * (width - left - right);
	const top = edges.length > 0 ? 34 : 18;
	const height = top + rows.length * 28 + 22;
	const step = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 30_000].find((size) => end / size <= Math.max(3, (width - left - right) / 110)) ?? 60_000;
	const out = [];
	for (let at = 0; at <= end * 1.0001; at += step) {
		out.push(line(`M${x(at)} ${top - 6}V${height - 18}`, 'grid'), s('text', { x: x(at), y: height - 5, 'text-anchor': at === 0 ? 'start' : 'middle' }, `${Number(at.toFixed(2))}${at === 0 ? ' ms' : ''}`));
	}
	// Over the lines, so that none goes through a word.
	const notes = [];
	rows.forEach(({ name, bars, note }, at) => {
		const y = top + at * 28;
		out.push(s('text', { x: 0, y: y + 14, class: 'name' }, name));
		for (const [from, to, kind] of bars) out.push(s('rect', { x: x(from), y: y + 3, width: Math.max(1.5, x(to) - x(from)), height: 15, class: `bar ${kind}`, rx: 1.5 }, s('title', {}, `${kind} ${ms(to - from)}`)));
		const last = Math.max(0, ...bars.map(([, to]) => to));
		if (note) notes.push(s('text', { x: x(last) + 6, y: y + 15 }, note));
	});
	edges.forEach(([at, name]) => out.push(line(`M${x(at)} 18V${height - 18}`, 'edge'), s('text', { x: x(at), y: 12, 'text-anchor': at > end / 2 ? 'end' : 'start', class: 'edge-name' }, `${name} ${ms(at)}`)));
	return h('div', { class: 'fall' }, s('svg', { viewBox: `0 0 ${width} ${height}`, height, role: 'img', 'aria-label': label }, out, notes));
}

const median = (numbers) => {
	const sorted = numbers.filter((number) => number !== null && number !== undefined).sort((a, b) => a - b);
	return sorted.length === 0 ? null : sorted[Math.floor(sorted.length / 2)];
};

export function mount(root, context) {
	const { signal, shared } = context;
	const keyField = h('input', { id: 'w-key', value: 'page/write', class: 'mono', required: true, maxlength: 4096 });
	const valueField = h('input', { id: 'w-value', value: 'Hello, Raft' });
	const indexField = h('input', { id: 'w-index', inputmode: 'numeric', pattern: '\\d+', placeholder: 'index of an entry' });
	const trouble = h('p', { class: 'wrong', role: 'alert' });
	const lead = h('p', { class: 'lead' }, 'Write a key, and see where its time goes.');
	const under = h('p', { class: 'under' }, 'Each write is one entry of the log. It must be on the disks of a majority before anybody is told that it is done.');
	const request = h('section');
	const entry = h('section');
	const many = h('section');
	const busy = soft();

	put(root, lead, under,
		h('form', { class: 'fields', onsubmit: (event) => { event.preventDefault(); once(); } },
			h('div', {}, h('label', { for: 'w-key' }, 'Key'), keyField), h('div', {}, h('label', { for: 'w-value' }, 'Value'), valueField),
			h('div', { class: 'buttons' }, h('button', { type: 'submit', class: 'main' }, 'Write it'), h('button', { onclick: twenty }, 'Write it 20 times'), busy)),
		trouble, request, entry, many,
		h('section', {}, h('details', {}, h('summary', {}, 'Look at an entry that is there'),
			h('form', { class: 'buttons line', onsubmit: (event) => { event.preventDefault(); look(Number(indexField.value)); } },
				h('div', {}, h('label', { for: 'w-index' }, 'Index: of a recent write, as its answer has it'), indexField), h('button', { type: 'submit' }, 'Take it apart')))));

	const width = () => Math.max(300, Math.min(1190, root.clientWidth || 900));

	async function attempt(work) {
		text(trouble, '');
		try {
			return await work();
		} catch (error) {
			if (signal.aborted) return null;
			if (error instanceof Lost) text(trouble, 'The node did not answer: whether the write was done is not known.');
			else if (error instanceof Refused) {
				if (error.status !== 401) text(trouble, shown(error.message, 600));
			} else throw error;
			return null;
		}
	}

	async function write() {
		const began = performance.now();
		const answer = await ask(`hraftd/key/${inPath(keyField.value)}?timing`, { method: 'PUT', body: valueField.value, headers: { 'Content-Type': 'text/plain; charset=utf-8' }, signal });
		if (!answer.ok) throw new Refused(answer);
		return { index: answer.json.index, took: performance.now() - began, timing: timingOf(answer.headers.get('server-timing')) };
	}

	/** An entry that was just written may be on its way to the last of the members. */
	async function entryOf(index) {
		const all = async () => (await get(`hraftd/raft/entry/${index}`, { signal })).json;
		let found = await all();
		for (let tries = 0; tries < 8 && (found.applied_ms === null || found.flushed_ms === null || found.members.some((member) => member.flushed_ms === null)); tries += 1) {
			await new Promise((done) => { setTimeout(done, 60); });
			found = await all();
		}
		return found;
	}

	async function once() {
		put(many);
		const done = await attempt(write);
		if (!done) return;
		text(lead, `Entry ${count(done.index)} took ${ms(done.timing.total)} at the server.`);
		text(under, `This browser waited ${ms(done.took)} for the answer; the rest is its own way there and back.`);
		say(`Written as entry ${done.index}`);
		drawRequest(done.timing);
		await look(done.index);
	}

	function drawRequest(timing) {
		let at = 0;
		const parts = PARTS.filter((name) => timing[name] !== undefined);
		const rows = parts.map((name) => {
			const from = at;
			at += timing[name];
			return { name, bars: [[from, at, name]], note: ms(timing[name]) };
		});
		put(request, h('div', { class: 'head' }, h('h2', {}, 'The request'), soft('its parts follow one another and add up to the total: the header Server-Timing')),
			fall(`The parts of the request: ${parts.map((name) => `${name} ${ms(timing[name])}`).join(', ')}`, rows, [], width()),
			h('details', {}, h('summary', {}, 'The same as a table'), table('The parts of the request', ['Part', 'What', '#Time'], [...parts, 'total'].map((name) => h('tr', {}, h('th', { scope: 'row' }, name), h('td', {}, SAYS[name] ?? 'all of it'), h('td', { class: 'num' }, ms(timing[name])))))));
	}

	async function look(index) {
		if (!Number.isSafeInteger(index) || index < 1) return;
		indexField.value = index;
		if (location.hash !== `#write/${index}`) window.history.replaceState(null, '', `#write/${index}`);
		let found;
		try {
			found = await entryOf(index);
		} catch (error) {
			if (signal.aborted) return;
			if (!(error instanceof Refused || error instanceof Lost)) throw error;
			put(entry, h('div', { class: 'head' }, h('h2', {}, `Entry ${count(index)}`)), empty(error.status === 403 ? 'This token may not see the times of entries' : 'Nothing is known of it', shown(error.message, 400)));
			return;
		}
		drawEntry(found);
	}

	function drawEntry(found) {
		const { members, flushed_ms: flushed, committed_ms: committed, applied_ms: applied } = found;
		const isLeader = found.leader === found.node;
		const rows = [{ name: `${client(found.node)}`, bars: flushed === null ? [] : [[0, flushed, 'flush']], note: flushed === null ? 'not on its disk yet' : `flushed ${ms(flushed)}` }];
		for (const { id, sent_ms: sent, flushed_ms: there } of members) {
			rows.push({ name: client(id), bars: sent === null ? [] : there === null ? [[sent, sent, 'flight']] : [[sent, there, 'flight']], note: sent === null ? 'not sent yet' : there === null ? 'no answer yet' : `back ${ms(there)}` });
		}
		if (committed !== null && applied !== null) rows.push({ name: 'apply', bars: [[committed, applied, 'apply']], note: `done ${ms(applied)}` });
		const edges = committed === null ? [] : [[committed, 'committed']];
		const quorum = members.length + 1;
		const slowest = members.filter((member) => member.flushed_ms !== null).sort((a, b) => b.flushed_ms - a.flushed_ms)[0];
		const says = !isLeader
			? [`These are the times at ${client(found.node)}, which follows. `, found.leader && ['When it went to each member only its leader knows: ', h('a', { href: `${location.protocol}//${client(found.leader)}${location.pathname}#write/${found.index}` }, `see it at ${client(found.leader)}`), '.']]
			: `The leader’s own flush counts for one of ${quorum}; ${Math.floor(quorum / 2) + 1} make a majority. A bar of another member is the way there, its flush, and the way back.${slowest && members.length > 1 ? ` Slowest: ${client(slowest.id)}.` : ''}`;
		put(entry, h('div', { class: 'head' }, h('h2', {}, `Entry ${count(found.index)}`), soft(`term ${found.term ?? '?'}, ${isLeader ? 'as its leader saw it' : 'as a follower saw it'}${found.passed_on_by ? `; passed on by ${client(found.passed_on_by)}` : ''}`)),
			note(says),
			fall(`When entry ${found.index} came how far`, rows, edges, width()),
			h('details', {}, h('summary', {}, 'The same as a table'), table('When the entry came how far, in milliseconds after it was handed to the log', ['Where', '#Sent', '#On disk'], [
				h('tr', {}, h('th', { scope: 'row', class: 'mono' }, client(found.node)), h('td', { class: 'num' }, '–'), h('td', { class: 'num' }, ms(flushed))),
				members.map((member) => h('tr', {}, h('th', { scope: 'row', class: 'mono' }, client(member.id)), h('td', { class: 'num' }, ms(member.sent_ms)), h('td', { class: 'num' }, ms(member.flushed_ms)))),
				h('tr', {}, h('th', { scope: 'row' }, 'committed'), h('td'), h('td', { class: 'num' }, ms(committed))), h('tr', {}, h('th', { scope: 'row' }, 'applied'), h('td'), h('td', { class: 'num' }, ms(applied)))])));
	}

	async function twenty() {
		const all = [];
		for (let at = 1; at <= 20 && !signal.aborted; at += 1) {
			text(busy, `${at} of 20`);
			const done = await attempt(write);
			if (!done) break;
			all.push(done);
		}
		text(busy, '');
		if (all.length === 0) return;
		const last = all[all.length - 1];
		const middle = Object.fromEntries([...PARTS, 'total'].filter((name) => last.timing[name] !== undefined).map((name) => [name, median(all.map((one) => one.timing[name]))]));
		text(lead, `Half of ${all.length} writes took at most ${ms(middle.total)}.`);
		text(under, `The slowest took ${ms(Math.max(...all.map((one) => one.timing.total)))}. Below is the last of them, then the middle of each part over all.`);
		drawRequest(last.timing);
		await look(last.index);
		const entries = (await Promise.all(all.map((one) => get(`hraftd/raft/entry/${one.index}`, { signal }).catch(() => null)))).filter(Boolean).map((answer) => answer.json);
		const ids = [...new Set(entries.flatMap((one) => one.members.map((member) => member.id)))];
		const row = (name, numbers) => h('tr', {}, h('th', { scope: 'row', class: 'mono' }, name), h('td', { class: 'num' }, ms(median(numbers))), h('td', { class: 'num' }, ms(Math.max(...numbers.filter((number) => number !== null)))));
		put(many, h('div', { class: 'head' }, h('h2', {}, `${all.length} writes, the nodes compared`), soft('milliseconds after the entry was handed to the log')),
			table('Parts and nodes over all writes', ['Part or node', '#Middle', '#Slowest'], [
				Object.keys(middle).map((name) => row(name, all.map((one) => one.timing[name] ?? null))),
				entries.length > 0 && row(`${client(entries[0].node)} on disk`, entries.map((one) => one.flushed_ms)),
				ids.map((id) => row(`${client(id)} on disk`, entries.map((one) => one.members.find((member) => member.id === id)?.flushed_ms ?? null)))]));
	}

	if (/^\d+$/.test(context.argument)) look(Number(context.argument));
	if (shared.me) void shared;
	return { move: (argument) => /^\d+$/.test(argument) && look(Number(argument)) };
}
