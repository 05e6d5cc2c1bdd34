// The theatre: a lane a member, a column an event, in the order in which things happened.

import { often } from './api.js';
import { FLOW, history, KEPT } from './history.js';
import { brief, capital, client, count, empty, glyph, h, hue, line, many, ms, note, put, rect, ring, s, say, shown, soft, term, text } from './dom.js';
import { meaning } from './meaning.js';

const COLUMN = 30;
const LANE = 64;
const TOP = 26;
/** A flow of entries is one column for so long. */
const FLOW_MS = 1_000;
/** So many rows of the table are shown. */
const ROWS = 160;
const TAIL = 14;
const CHECK_EVERY_MS = 3_000;

const clock = (at) => {
	const time = new Date(at);
	const two = (number, width = 2) => String(number).padStart(width, '0');
	return `${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}.${two(time.getMilliseconds(), 3)}`;
};

/** Events as columns: each its own, but those of entries that flow. */
function columnsOf(events, flows) {
	const columns = [];
	let last = null;
	events.forEach((event, at) => {
		if (event.event === 'seed') return;
		const isFlow = FLOW.has(event.event);
		if (isFlow && !flows) return;
		const isIdle = event.event === 'heartbeat' || event.event === 'read_index';
		// Where nothing else happens, heartbeats are one column however long they go on.
		if (isFlow && last?.flow && event.term === last.term && (isIdle && last.idle ? event.node === last.first.node : event.at - last.from < FLOW_MS)) {
			last.idle &&= isIdle;
			last.events.push(event);
			last.end = at + 1;
			last.at = event.at;
			return;
		}
		last = { flow: isFlow, idle: isIdle, events: [event], first: event, term: event.term, from: event.at, at: event.at, end: at + 1 };
		columns.push(last);
	});
	return columns;
}

/** A candidate tells what a voter answered it; the voter has told it, too. */
const isHeard = (event) => event.action !== undefined && event.action !== 'asked' && event.peer !== undefined && event.text.startsWith(event.peer);

const titleOf = (column) => {
	if (!column.flow) {
		const { event, action } = column.first;
		if (event === 'peer') return isBack(column.first) ? 'back' : 'lost';
		return `${event.replace('_', '-')}${action ? ` ${action}` : ''}${isHeard(column.first) ? ', heard' : ''}`;
	}
	const kinds = new Set(column.events.map((event) => event.event));
	if (kinds.size === 1) return { heartbeat: 'heartbeats', read_index: 'reads' }[[...kinds][0]] ?? 'entries';
	return 'entries';
};

function flowText(column) {
	const indexes = column.events.filter((event) => event.event === 'append' || event.event === 'commit').map((event) => event.index);
	const applied = Math.max(0, ...column.events.filter((event) => event.event === 'apply').map((event) => event.index));
	const committed = Math.max(0, ...column.events.filter((event) => event.event === 'commit').map((event) => event.index));
	const sent = column.events.filter((event) => event.event === 'append' && event.match !== undefined);
	const beats = column.events.filter((event) => event.event === 'heartbeat');
	const reads = column.events.filter((event) => event.event === 'read_index').reduce((sum, event) => sum + (event.count ?? 0), 0);
	const said = [];
	if (indexes.length > 0) said.push(`Entries up to ${count(Math.max(...indexes))}`);
	if (sent.length > 0) said.push(`sent by ${client(sent[0].node)}`);
	if (committed > 0) said.push(`committed up to ${count(committed)}`);
	if (applied > 0) said.push(`applied up to ${count(applied)}`);
	if (reads > 0) said.push(`${many(reads, 'round')} confirmed a read`);
	if (beats.length > 0) said.push(`${many(beats.reduce((sum, event) => sum + (event.count ?? 0), 0), 'heartbeat')} went out`);
	if (column.idle && column.at - column.from > 2_000) said.push(`in ${ms(column.at - column.from)}`);
	const line = said.join(', ');
	return `${capital(line)}.`;
}

const textOf = (column) => (column.flow ? flowText(column) : shown(column.first.text, 600));

/** Why the leader of now leads: who stood and why, and who voted for it. */
function whyItLeads(events) {
	for (let at = events.length - 1; at >= 0; at -= 1) {
		const elected = events[at];
		if (elected.event !== 'elected') continue;
		let reason = null;
		const votes = new Map();
		for (let back = at - 1; back >= 0 && back > at - 400; back -= 1) {
			const event = events[back];
			if (event.event === 'timeout' && event.node === elected.node && event.term <= elected.term && !reason) reason = event.reason;
			if (event.event === 'vote' && event.term === elected.term && (event.action === 'granted' || event.action === 'refused')) {
				const voter = event.node === elected.node ? event.peer : event.node;
				const candidate = event.node === elected.node || event.peer === elected.node;
				if (candidate && voter !== elected.node) votes.set(voter, event);
			}
		}
		// Votes that came after a majority was there.
		for (let on = at + 1; on < events.length && on < at + 60; on += 1) {
			const event = events[on];
			if (event.event === 'vote' && event.term === elected.term && event.node === elected.node && event.action !== 'asked') votes.set(event.peer, event);
		}
		return { elected, reason, votes: [...votes.entries()] };
	}
	return null;
}

const MARKS = {
	timeout: (x, y) => s('g', {}, ring(x, y, 7, 'mark'), line(`M${x} ${y - 4}V${y}H${x + 3}`, 'mark')),
	elected: (x, y) => line(`M${x} ${y - 9} ${x + 9} ${y} ${x} ${y + 9} ${x - 9} ${y}z`, 'mark lead'),
	term: (x, y) => line(`M${x} ${y - 8}V${y + 8}`, 'mark'),
	role: (x, y) => ring(x, y, 4, 'mark'),
	conflict: (x, y) => line(`M${x} ${y - 7} ${x + 7} ${y + 6}H${x - 7}z`, 'mark bad'),
	snapshot: (x, y) => rect(x - 6, y - 6, 12, 12, 'mark full'),
	membership: (x, y) => s('g', {}, ring(x - 3, y, 5, 'mark'), ring(x + 4, y, 5, 'mark')),
	transfer: (x, y) => line(`M${x - 7} ${y - 3}H${x + 3}M${x - 1} ${y - 7} ${x + 4} ${y - 3} ${x - 1} ${y + 1}M${x + 7} ${y + 5}H${x - 5}`, 'mark'),
	takeover: (x, y) => line(`M${x + 1} ${y - 9} ${x - 5} ${y + 1}H${x + 1}L${x - 1} ${y + 9} ${x + 6} ${y - 2}H${x}z`, 'mark lead'),
	peer: (x, y) => line(`M${x - 5} ${y - 5} ${x + 5} ${y + 5}M${x + 5} ${y - 5} ${x - 5} ${y + 5}`, 'mark bad'),
	back: (x, y) => line(`M${x - 6} ${y} ${x - 1} ${y + 5} ${x + 6} ${y - 5}`, 'mark back'),
	stopping: (x, y) => rect(x - 6, y - 6, 12, 12, 'mark bad'),
};

function arrow(x, from, to, kind) {
	const down = to > from ? 1 : -1;
	const [a, b] = [from + 9 * down, to - 10 * down];
	const head = `M${x - 4} ${b - 6 * down} ${x} ${b} ${x + 4} ${b - 6 * down}`;
	return [line(`M${x} ${a}V${b}`, `msg ${kind}`), line(head, `msg ${kind}`)];
}

function sign(x, y, granted) {
	return granted
		? [ring(x, y, 8, 'mark granted'), line(`M${x - 4} ${y} ${x - 1} ${y + 3} ${x + 4} ${y - 3}`, 'mark-sign')]
		: [ring(x, y, 8, 'mark refused'), line(`M${x - 3} ${y - 3} ${x + 3} ${y + 3}M${x + 3} ${y - 3} ${x - 3} ${y + 3}`, 'mark-sign bad')];
}

const isBack = (event) => / (?:is followed|answers the leader) again\.?$/.test(event.text);

function drawEvent(event, x, y) {
	const own = y(event.node);
	const other = event.peer !== undefined ? y(event.peer) : undefined;
	if (event.event === 'vote' || event.event === 'pre_vote') {
		const isReal = event.event === 'vote';
		if (event.action === 'asked') return [other !== undefined && arrow(x, own, other, 'asked'), s('circle', { cx: x, cy: own, r: isReal ? 5 : 4, class: isReal ? 'mark full' : 'mark' })];
		const granted = event.action === 'granted';
		// The voter's own word is an arrow; what the candidate hears of it is a sign.
		return [!isHeard(event) && other !== undefined && arrow(x, own, other, granted ? 'granted' : 'refused'), sign(x, own, granted)];
	}
	if (event.event === 'transfer' && other !== undefined) return [arrow(x, own, other, 'asked'), MARKS.transfer(x, own)];
	if (event.event === 'peer') return (isBack(event) ? MARKS.back : MARKS.peer)(x, other ?? own);
	return (MARKS[event.event] ?? MARKS.role)(x, own);
}

function drawFlow(column, x, y) {
	const out = [];
	const seen = new Set();
	for (const event of column.events) {
		const own = y(event.node);
		const to = event.peer !== undefined && event.match !== undefined ? y(event.peer) : undefined;
		if (event.event === 'append' && to !== undefined && event.count > 0 && !seen.has(event.peer)) {
			seen.add(event.peer);
			out.push(arrow(x, own, to, `append ${hue(column.term)}`));
		}
	}
	const once = (kind, draw) => {
		for (const node of new Set(column.events.filter((event) => event.event === kind).map((event) => event.node))) out.push(draw(y(node)));
	};
	once('append', (at) => rect(x - 5, at - 5, 10, 10, `mark ${hue(column.term)}`));
	once('commit', (at) => rect(x - 5, at - 5, 10, 10, `mark commit ${hue(column.term)}`));
	if (out.length === 0) once('heartbeat', (at) => ring(x, at, 2.5, 'mark full'));
	once('read_index', (at) => line(`M${x - 4} ${at + 9}H${x + 4}`, 'msg granted'));
	return out;
}

const small = (kind) => line('M8 0V13M5 9l3 4 3-4', `msg ${kind}`);
const box = (kind, size = 10) => rect(8 - size / 2, 8 - size / 2, size, size, kind);
const LEGEND = [
	['colour: the term', ['t1', 't2', 't3'].map((kind, at) => rect(at * 5, 3, 5, 10, `era-edge ${kind}`))],
	['thick band: leads', box('era Leader t1', 16)],
	['thin: follows', rect(0, 4, 16, 8, 'era t1')],
	['hatched: stands for election', rect(0, 1, 16, 14, 'era Candidate')],
	['dashed: not heard of', rect(1, 3, 14, 10, 'era Lost')],
	['begins an election', MARKS.timeout(8, 8)],
	['asks for a vote', small('asked')],
	['gives it', sign(8, 8, true)],
	['refuses it', sign(8, 8, false)],
	['is elected', MARKS.elected(8, 8)],
	['a new term', MARKS.term(8, 8)],
	['another role', MARKS.role(8, 8)],
	['entries sent', small('append t1')],
	['in a log', box('mark t1')],
	['committed', box('mark commit t1')],
	['heartbeats', ring(8, 8, 2.5, 'mark full')],
	['a read confirmed', line('M2 8H14', 'msg granted')],
	['entries dropped', MARKS.conflict(8, 8)],
	['a snapshot', MARKS.snapshot(8, 8)],
	['other members', MARKS.membership(8, 8)],
	['leadership handed over', MARKS.transfer(8, 8)],
	['a dead leader replaced', MARKS.takeover(8, 8)],
	['lost', MARKS.peer(8, 8)],
	['back', MARKS.back(8, 8)],
	['stops', MARKS.stopping(8, 8)],
];

export function mount(root, context) {
	const { signal } = context;
	let columns = [];
	let chosen = null;
	let isLive = true;
	let flows = true;
	let windowEnd = null;
	let width = 900;

	const lead = h('p', { class: 'lead' }, 'Listening to the members…');
	const under = h('p', { class: 'under' });
	const stage = s('svg', { class: 'stage', role: 'img', 'aria-label': 'Lanes of the members with what they did, in order. The table below has the same.' });
	const range = h('input', { type: 'range', min: 0, max: 0, value: 0, 'aria-label': 'Position in what happened' });
	const live = h('button', {}, 'Pause');
	const back = h('button', { 'aria-label': 'One step back' }, '◂ Step');
	const on = h('button', { 'aria-label': 'One step on' }, 'Step ▸');
	const flowBox = h('input', { type: 'checkbox', id: 'flows', checked: true });
	const where = h('span', { class: 'num soft' });
	const tails = h('div', { class: 'tails' });
	const body = h('tbody');
	const list = h('div', { class: 'events', tabindex: 0, role: 'region', 'aria-label': 'Events' },
		h('table', {}, h('caption', { class: 'unseen' }, 'What happened, in order'),
			h('thead', {}, h('tr', {}, h('th', { scope: 'col', class: 'c-time' }, 'Time'), h('th', { scope: 'col', class: 'c-kind' }, 'Event'), h('th', { scope: 'col' }, 'What happened'))), body));
	const said = h('aside', { class: 'meaning', 'aria-label': 'What does this mean', 'aria-live': 'off' });
	const stepOf = soft();
	const kept = soft();
	const stageWrap = h('div', { class: 'stage-wrap' }, stage);
	const deck = h('div', { class: 'deck' }, h('span', { class: 'group' }, live, back, on), range, where,
		h('label', { for: 'flows' }, flowBox, 'entries and heartbeats'));
	const legend = h('div', { class: 'legend' }, h('p', {}, 'A column is a step. Steps are evenly spaced, not to scale: dashed lines say where a second or more passes, and how many.'),
		LEGEND.map(([name, marks]) => h('span', {}, s('svg', { width: 16, height: 16, viewBox: '0 0 16 16', class: 'stage', 'aria-hidden': 'true' }, marks), name)));
	const below = h('div', { class: 'theatre' },
		h('section', {}, h('div', { class: 'head' }, h('h2', {}, 'In order'), kept), list), said);
	const card = h('section', { class: 'card', 'aria-label': 'The stage' }, stageWrap, deck, tails, legend);
	put(root, lead, under, card, below);

	const indexOf = (column) => {
		if (!column) return columns.length - 1;
		const same = columns.indexOf(column);
		if (same >= 0) return same;
		// Columns are made anew with each change: the one with that event is meant.
		const found = columns.findIndex((other) => other.events.includes(column.first));
		return found >= 0 ? found : column.end <= 0 ? 0 : Math.min(columns.length - 1, Math.max(0, columns.findIndex((other) => other.at >= column.at)));
	};

	function choose(column, freeze = true) {
		chosen = column;
		if (freeze && isLive) setLive(false);
		paint();
	}

	function setLive(value) {
		isLive = value;
		text(live, isLive ? 'Pause' : 'Go on live');
		live.classList.toggle('on', !isLive);
		if (isLive) chosen = null;
		windowEnd = null;
		say(isLive ? 'Live' : 'Paused');
	}

	function step(by) {
		const at = indexOf(chosen ?? columns[columns.length - 1]);
		const next = Math.max(0, Math.min(columns.length - 1, at + by));
		if (columns[next]) choose(columns[next]);
	}

	live.addEventListener('click', () => {
		setLive(!isLive);
		if (!isLive) chosen = columns[columns.length - 1] ?? null;
		paint();
	});
	back.addEventListener('click', () => step(-1));
	on.addEventListener('click', () => step(1));
	range.addEventListener('input', () => columns[Number(range.value)] && choose(columns[Number(range.value)]));
	flowBox.addEventListener('change', () => {
		flows = flowBox.checked;
		paint();
	});

	const rows = new Map();

	function row(column) {
		let tr = rows.get(column.first);
		const { first, flow } = column;
		if (!tr) {
			const what = h('td');
			tr = h('tr', { class: flow ? 'flow' : '' }, h('td', { class: 'num c-time' }, clock(column.from)),
				h('td', { class: 'c-kind' }, h('button', { class: 'pick', tabindex: -1 }, titleOf(column))), what);
			if (!flow) tr.classList.add(`is-${first.event}`);
			tr.addEventListener('click', () => choose(columns[indexOf({ ...column, first })] ?? null));
			tr.what = what;
			rows.set(first, tr);
		}
		text(tr.what, brief(textOf(column)));
		if (flow) text(tr.querySelector('button'), titleOf(column));
		return tr;
	}

	function paintRows(at) {
		const from = isLive ? Math.max(0, columns.length - ROWS) : Math.max(0, Math.min(columns.length - ROWS, at - ROWS / 2));
		const seen = columns.slice(from, from + ROWS);
		const wanted = seen.map(row);
		const keep = new Set(wanted);
		for (const [event, tr] of rows) {
			if (!keep.has(tr)) {
				tr.remove();
				rows.delete(event);
			}
		}
		let place = body.firstChild;
		for (const tr of wanted) {
			if (tr === place) place = place.nextSibling;
			else body.insertBefore(tr, place);
		}
		for (const tr of wanted) {
			const is = tr === rows.get(columns[at]?.first);
			tr.setAttribute('aria-selected', is && !isLive ? 'true' : 'false');
			tr.querySelector('button').tabIndex = is ? 0 : -1;
		}
		// No row stands half under the head.
		const head = list.querySelector('thead').offsetHeight;
		const to = (top) => {
			const first = wanted.find((one) => one.offsetTop >= top + head);
			list.style.paddingBottom = first ? `${Math.max(0, first.offsetTop - head - top)}px` : '';
			if (first) list.scrollTop = first.offsetTop - head;
		};
		const tr = rows.get(columns[at]?.first);
		const top = tr?.offsetTop;
		if (tr && isLive) to(body.offsetTop + body.offsetHeight - list.clientHeight);
		else if (tr && (top < list.scrollTop + 40 || top > list.scrollTop + list.clientHeight - 60)) to(top - list.clientHeight / 2);
	}

	list.addEventListener('keydown', (event) => {
		const by = { ArrowUp: -1, ArrowDown: 1 }[event.key];
		if (!by) return;
		event.preventDefault();
		step(by);
		rows.get(columns[indexOf(chosen)]?.first)?.querySelector('button').focus({ preventScroll: true });
	});

	function paintMeaning(column) {
		if (!column) {
			put(said, h('h2', {}, 'Nothing yet'), h('p', {}, 'As soon as a member does something it is here. Write a key, or stop a node.'));
			return;
		}
		const { first, flow } = column;
		const means = flow ? meaning('flow') : meaning(first.event, first.event === 'peer' ? titleOf(column) : first.action);
		said.className = `meaning ${hue(first.term)}`;
		put(said, h('h2', {}, stepOf, means.title),
			h('p', { class: 'quote' }, brief(textOf(column))),
			note(h('span', { class: 'num' }, clock(column.from)), ' at ', h('span', { class: 'mono' }, client(first.node)), ' ', first.term > 0 && term(first.term)),
			h('h3', {}, 'What does this mean?'), means.says.map((line) => h('p', {}, line)),
			h('p', { class: 'paper' }, means.where, '.'));
	}

	function paintTails(picture, ids) {
		const newest = Math.max(1, ...ids.map((id) => picture.nodes.get(id)?.last ?? 0));
		const fits = Math.max(4, Math.min(TAIL * 2, Math.floor((width - 190) / 36)));
		const first = Math.max(1, newest - fits + 1);
		const indexes = Array.from({ length: newest - first + 1 }, (_, at) => first + at);
		const cell = (node, index) => {
			if (index > node.last) return h('td', { class: 'cell none' }, h('span', { class: 'unseen' }, 'not there'));
			const of = picture.termOf(index);
			const is = [index <= node.commit && 'committed', index <= node.applied && 'applied'].filter(Boolean);
			return h('td', { class: `cell ${of === null ? 'tx' : hue(of)} ${is.join(' ')}`, title: `entry ${index}${of === null ? ', written before this page saw anything' : `, term ${of}`}${is.length ? `, ${is.join(', ')}` : ', not known to be committed'}` }, of ?? '·');
		};
		const says = 'The end of each log: a cell an entry with its term; filled is committed, underlined applied';
		put(tails, h('p', { class: 'tails-say', 'aria-hidden': 'true' }, says), h('table', { class: 'tail-table' }, h('caption', { class: 'unseen' }, says),
			h('thead', {}, h('tr', {}, h('th', { scope: 'col' }, 'Index'), indexes.map((index) => h('th', { scope: 'col', class: 'cell index' }, newest > 9_999 ? `…${String(index).slice(-3)}` : index)))),
			h('tbody', {}, ids.map((id) => h('tr', {}, h('th', { scope: 'row', class: 'mono' }, client(id)), (picture.nodes.get(id)?.last ?? 0) === 0
				? h('td', { class: 'soft', colspan: indexes.length }, 'not heard of yet')
				: indexes.map((index) => cell(picture.nodes.get(id), index)),
			picture.nodes.get(id)?.lost && picture.nodes.get(id).seen > 0 && h('td', { class: 'soft' }, `last heard of at ${clock(picture.nodes.get(id).seen)}`))))));
	}

	function paintStage(at, ids, told) {
		const narrow = width < 620;
		const left = narrow ? 12 : 178;
		const lane = narrow ? LANE + 12 : LANE;
		const fits = Math.max(4, Math.floor((width - left - 16) / COLUMN));
		let end = columns.length;
		if (!isLive) {
			end = windowEnd ? indexOf(windowEnd) + 1 : columns.length;
			if (at >= end) end = Math.min(columns.length, at + 3);
			if (at < end - fits) end = Math.min(columns.length, at + Math.ceil(fits / 2));
			windowEnd = columns[end - 1] ?? null;
		}
		const begin = Math.max(0, end - fits);
		const height = TOP + ids.length * lane + 22;
		stage.setAttribute('viewBox', `0 0 ${width} ${height}`);
		stage.setAttribute('height', height);
		const y = (id) => {
			const place = ids.indexOf(id);
			return place < 0 ? undefined : TOP + place * lane + lane / 2 + (narrow ? 8 : 0);
		};
		const x = (column) => left + (column - begin) * COLUMN + COLUMN / 2 + 8;
		const out = [s('defs', {}, s('pattern', { id: 'hatch', width: 6, height: 6, patternUnits: 'userSpaceOnUse', patternTransform: 'rotate(45)' }, s('path', { d: 'M0 0V6', stroke: 'var(--lead-fill)', 'stroke-width': 3, opacity: 0.5 })))];

		// What each was, column by column.
		const picture = begin > 0 ? history.picture(columns[begin - 1].end) : history.base.copy();
		const eras = new Map(ids.map((id) => [id, []]));
		let done = begin > 0 ? columns[begin - 1].end : 0;
		for (let column = begin; column < end; column += 1) {
			for (; done < columns[column].end; done += 1) picture.take(history.events[done]);
			for (const id of ids) {
				const node = picture.nodes.get(id);
				const role = node?.lost ? 'Lost' : node?.role;
				const list = eras.get(id);
				const last = list[list.length - 1];
				if (last && last.role === role && last.term === node?.term) last.to = column;
				else list.push({ role, term: node?.term ?? 0, from: column, to: column });
			}
		}
		const now = isLive ? history.picture(history.events.length) : history.picture(columns[at]?.end ?? 0);
		// Over the arrows, so that none goes through a word; and over all of it what takes a click.
		const names = [];
		const hits = [];
		for (const id of ids) {
			const node = now.nodes.get(id);
			const role = node?.lost ? 'Lost' : (node?.role ?? '');
			const row = y(id);
			out.push(line(`M${left} ${row}H${width - 12}`, 'rail'));
			for (const { role: was, term: of, from, to } of eras.get(id)) {
				if (!was) continue;
				const [a, b] = [x(from) - COLUMN / 2, x(to) + COLUMN / 2];
				const tall = was === 'Leader' || was === 'Candidate' ? 26 : 18;
				out.push(rect(a, row - tall / 2, b - a, tall, `era ${was} ${hue(of)}`));
				out.push(rect(a, row - tall / 2, 3, tall, `era-edge ${hue(of)}`));
				if (b - a > 44 && of > 0) names.push(s('text', { x: a + 6, y: row + tall / 2 + 11, class: 'era-text' }, `term ${of}`));
			}
			const g = glyph(role);
			g.setAttribute('x', narrow ? 12 : 14);
			g.setAttribute('y', narrow ? row - 38 : row - 15);
			if (!role) g.setAttribute('visibility', 'hidden');
			names.push(g, s('text', { x: 36, y: narrow ? row - 26 : row - 3, class: 'lane-name' }, client(id)),
				s('text', { x: narrow ? width - 12 : 36, y: narrow ? row - 26 : row + 13, class: 'lane-state', 'text-anchor': narrow ? 'end' : 'start' }, role ? `${role}${node?.term ? `, term ${node.term}` : ''}` : 'not known yet'));
		}
		for (let column = begin; column < end; column += 1) {
			const { flow, first, from } = columns[column];
			const before = columns[column - 1];
			const wait = before ? from - before.at : 0;
			const place = x(column);
			if (wait >= 1_000 && column > begin) {
				out.push(line(`M${place - COLUMN / 2} ${TOP - 4}V${height - 18}`, 'gap'),
					s('text', { x: place - COLUMN / 2, y: 15, 'text-anchor': 'middle' }, `${wait < 100_000 ? `${Math.round(wait / 1000)} s` : ms(wait)}`));
			}
			if (columns[column] === told) out.push(s('rect', { x: place - COLUMN / 2, y: TOP - 6, width: COLUMN, height: height - TOP - 8, class: 'chosen', rx: 3 }));
			const marks = (flow ? drawFlow(columns[column], place, (id) => y(id) ?? -50) : drawEvent(first, place, (id) => y(id)));
			if (y(first.node) !== undefined) out.push(marks);
			const hit = rect(place - COLUMN / 2, TOP - 6, COLUMN, height - TOP - 8, 'column hit', s('title', {}, `${clock(from)} ${brief(textOf(columns[column]))}`));
			hit.addEventListener('click', () => choose(columns[column]));
			hits.push(hit);
		}
		if (columns[begin]) out.push(s('text', { x: left + 8, y: height - 6 }, clock(columns[begin].from)));
		if (columns[end - 1] && end - begin > 6) out.push(s('text', { x: x(end - 1) + COLUMN / 2, y: height - 6, 'text-anchor': 'end' }, clock(columns[end - 1].at)));
		put(stage, out, names, hits);
		return { now, y, x, end };
	}

	function paintLead() {
		const why = whyItLeads(history.events);
		const ids = [...history.base.nodes.keys()];
		if (history.state === 'refused') {
			if (context.refused(history.error)) return;
			text(lead, 'The node does not tell its events now.');
			text(under, capital(shown(brief(history.error?.message ?? ''), 400)));
			return;
		}
		const now = history.picture(history.events.length);
		if (why && now.leader === why.elected.node && !now.nodes.get(why.elected.node)?.lost) {
			const { elected, reason, votes } = why;
			text(lead, `${client(elected.node)} leads in term ${elected.term}${reason ? `: ${brief(reason)}.` : '.'}`);
			text(under, votes.length === 0 ? 'Nobody else had to vote for it.' : votes.map(([voter, vote]) => `${client(voter)} ${vote.action === 'granted' ? 'voted for it' : 'did not vote for it'}: ${brief(vote.reason ?? '')}.`).join(' '));
		} else if (now.leader && !now.nodes.get(now.leader)?.lost) {
			text(lead, `${client(now.leader)} leads in term ${now.nodes.get(now.leader).term}.`);
			text(under, 'It was elected before this page saw anything. Stop it, and see why the next one wins.');
		} else if (ids.length > 0) {
			const known = ids.filter((id) => now.nodes.get(id)?.role || now.nodes.get(id)?.lost);
			const silent = known.filter((id) => now.nodes.get(id).lost);
			const others = known.length - silent.length;
			text(lead, now.leader ? `${client(now.leader)} led, and does not answer.` : silent.length > 0 ? `There is no leader: ${others} of ${many(known.length, 'member')} ${others === 1 ? 'answers' : 'answer'}.` : 'Nobody leads that this page has heard of.');
			text(under, `${silent.length > 0 ? `Not heard of: ${silent.map(client).join(', ')}. ` : ''}The next election begins once a majority can vote.`);
		} else if (history.state === 'open') {
			text(lead, 'This node is not a member of a cluster yet.');
			text(under, 'As soon as it does something, it is here.');
		}
	}

	let seenEvents = 0;
	function paint() {
		if (signal.aborted) return;
		columns = columnsOf(history.events, flows);
		const picture = history.picture(history.events.length);
		const ids = [...picture.nodes.keys()].filter((id) => id.includes(',')).sort();
		if (ids.length > 0) context.noteMembers(ids);
		const at = isLive ? columns.length - 1 : indexOf(chosen);
		if (!isLive) chosen = columns[at] ?? null;
		paintLead();
		let told = columns[at];
		// Live, what matters stays in view while entries flow by.
		if (isLive) told = columns.findLast((column) => !column.flow && column.first.event !== 'role' && column.first.event !== 'term') ?? told;
		if (columns.length === 0 && ids.length > 0) under.append(' No member has told anything yet: as soon as one does, it is here.');
		const drawn = paintStage(at, ids, told);
		// Without an event there is nothing to control, and no mark to explain.
		for (const part of [deck, tails, legend, below]) part.hidden = columns.length === 0;
		card.hidden = columns.length + ids.length === 0;
		paintTails(drawn.now, ids);
		paintRows(at);
		const step = `Step ${count(columns.indexOf(told) + 1)} of ${count(columns.length)}: `;
		if (paint.told !== told?.first || told?.flow) {
			paintMeaning(told);
			paint.told = told?.first;
		}
		text(stepOf, told ? step : '');
		range.max = Math.max(0, columns.length - 1);
		range.value = Math.max(0, at);
		range.setAttribute('aria-valuetext', columns[at] ? brief(textOf(columns[at])) : 'nothing yet');
		text(where, columns.length === 0 ? '' : `step ${count(at + 1)} of ${count(columns.length)}`);
		text(kept, `${many(history.events.length, 'event')}; the newest ${count(KEPT)} are kept${history.dropped > 0 ? `, ${count(history.dropped)} older ones are gone` : ''}${history.missed > 0 ? `; ${many(history.missed, 'gap')}` : ''}`);
		if (isLive) travel(drawn, ids);
		seenEvents = history.dropped + history.events.length;
	}

	/** Entries that were just sent are seen to go. */
	function travel({ y, x, end }) {
		if (matchMedia('(prefers-reduced-motion: reduce)').matches || end === 0) return;
		const fresh = history.events.slice(Math.max(0, seenEvents - history.dropped)).filter((event) => event.event === 'append' && event.match !== undefined && event.count > 0);
		for (const event of fresh.slice(-8)) {
			const [from, to] = [y(event.node), y(event.peer)];
			if (from === undefined || to === undefined) continue;
			const dot = ring(x(end - 1), from, 5, `dot-go ${hue(event.term)}`);
			stage.append(dot);
			dot.animate([{ transform: 'translateY(0)' }, { transform: `translateY(${to - from}px)` }], { duration: 450, easing: 'ease-in-out' }).finished.then(() => dot.remove(), () => dot.remove());
		}
	}

	let wanted = false;
	const later = () => {
		if (wanted || signal.aborted) return;
		wanted = true;
		requestAnimationFrame(() => {
			wanted = false;
			paint();
		});
	};
	history.addEventListener('change', later, { signal });
	const observer = new ResizeObserver(([entry]) => {
		const now = Math.round(entry.contentRect.width);
		if (now > 0 && now !== width) {
			width = now;
			later();
		}
	});
	observer.observe(stageWrap);
	signal.addEventListener('abort', () => observer.disconnect());
	put(tails, empty('Nothing yet', 'The members are asked what they do.'));
	history.begin();
	often(CHECK_EVERY_MS, signal, () => history.check(signal));
	later();
}
