// The cluster: a lane a member, what is wrong, and what changes it.

import { ask, get, Lost, often, Refused } from './api.js';
import { brief, bytes, capital, client, confirm, copier, count, flags, glyph, h, many, ms, note, put, raft, say, shown, soft, table, term, text } from './dom.js';

/** How each is, asked for once a second; what is wrong, less often. */
const EVERY_MS = 1_000;
const DOCTOR_EVERY_MS = 5_000;

const name = (id) => (id ? client(id) : '–');

/** A bar of the newest entries: all logs on one scale. */
function bar() {
	const parts = ['log', 'commit', 'applied'].map((kind) => h('i', { class: kind }));
	return { root: h('div', { class: 'log-bar', 'aria-hidden': 'true' }, parts), parts };
}

function paintBar({ root, parts }, vitals, [from, to], hueOf) {
	root.className = `log-bar ${hueOf}`;
	const values = [vitals.last_log_index, vitals.commit_index, vitals.applied_index];
	values.forEach((value, at) => {
		parts[at].style.width = `${Math.max(0, Math.min(100, ((value - from) / (to - from)) * 100))}%`;
	});
}

function lane(id, context) {
	const parts = {
		glyph: h('span'), state: h('span', { class: 'state' }), suffrage: soft(), here: h('span', { class: 'here' }, 'this page asks it'),
		term: h('span'), vote: soft(), bar: bar(), log: h('dd'), commit: h('dd'), applied: h('dd'), lag: h('dd'),
		contact: h('dd'), contactName: h('dt'), flush: h('dd'), trip: h('dd'), disk: h('dd'), snapshot: h('dd'), version: h('dd'), links: h('div', { class: 'bad-text' }),
	};
	const pair = (label, value) => h('div', {}, typeof label === 'string' ? h('dt', {}, label) : label, value);
	const link = h('a', { href: `${location.protocol}//${client(id)}${location.pathname}#cluster`, class: 'addr', title: 'its own page' }, client(id));
	parts.lead = h('button', { onclick: () => lead(id, context) }, 'Make leader');
	parts.remove = h('button', { onclick: () => remove(id, context) }, 'Remove…');
	for (const [verb, button] of [['Make leader', parts.lead], ['Remove', parts.remove]]) button.setAttribute('aria-label', `${verb}: ${client(id)}`);
	parts.figures = h('div', {}, parts.bar.root, h('dl', { class: 'pairs' }, pair('log', parts.log), pair('committed', parts.commit), pair('applied', parts.applied), pair('behind', parts.lag)));
	parts.more = h('dl', { class: 'pairs grid' }, pair(parts.contactName, parts.contact), pair('flush p99', parts.flush), pair('answers in', parts.trip), pair('disk free', parts.disk), pair('snapshot', parts.snapshot), pair('version', parts.version));
	parts.why = h('p', { class: 'bad-text' });
	parts.needs = h('span', { class: 'soft caption', hidden: true }, 'Needs a leader');
	parts.root = h('article', { class: 'lane', 'aria-label': client(id) },
		h('div', { class: 'who' }, parts.glyph, h('div', {}, link,
			h('div', {}, parts.state, ' ', parts.suffrage, parts.here),
			h('div', { class: 'soft num' }, `Raft ${raft(id)}`))),
		h('div', {}, h('div', {}, parts.term, ' ', parts.vote), parts.figures, parts.why),
		h('div', { class: 'more' }, parts.more, parts.links),
		h('div', { class: 'acts' }, parts.lead, parts.remove, parts.needs));
	return parts;
}

function paintLane(parts, member, facts) {
	const { state, suffrage, vitals, why, answer_ms: answered } = member;
	parts.root.className = `lane ${state}`;
	if (parts.was !== state) put(parts.glyph, glyph(state));
	parts.was = state;
	text(parts.state, state);
	text(parts.suffrage, suffrage === 'Voter' ? '' : 'no vote');
	parts.here.hidden = member.id !== facts.me;
	parts.figures.hidden = !vitals;
	parts.more.hidden = !vitals;
	const isStuck = facts.isOut || !facts.hasLeader;
	parts.remove.disabled = isStuck;
	parts.lead.disabled = isStuck || state === 'Leader' || suffrage !== 'Voter' || !vitals;
	parts.needs.hidden = facts.isOut || facts.hasLeader;
	text(parts.why, why ? shown(why, 300) : '');
	if (!vitals) {
		put(parts.term);
		parts.wasTerm = null;
		text(parts.vote, '');
		put(parts.links);
		return;
	}
	if (parts.wasTerm !== vitals.term) put(parts.term, term(vitals.term));
	parts.wasTerm = vitals.term;
	text(parts.vote, vitals.voted_for === null ? 'has not voted' : vitals.voted_for === member.id ? 'voted for itself' : `voted for ${name(vitals.voted_for)}`);
	paintBar(parts.bar, vitals, facts.scale, `t${vitals.term % 6}`);
	text(parts.log, count(vitals.last_log_index));
	text(parts.commit, count(vitals.commit_index));
	text(parts.applied, count(vitals.applied_index));
	const behind = Math.max(0, facts.newest - vitals.applied_index);
	text(parts.lag, many(behind, 'entry', 'entries'));
	parts.lag.className = behind > 5_000 ? 'warn-text' : '';
	text(parts.contactName, state === 'Leader' ? 'heartbeat' : 'contact');
	text(parts.contact, state === 'Leader' ? `every ${ms(vitals.heartbeat_ms)}` : vitals.contact_ms === null ? 'never' : `${ms(vitals.contact_ms)} ago`);
	text(parts.flush, vitals.flush_p99_ms === null ? 'none lately' : ms(vitals.flush_p99_ms));
	text(parts.trip, ms(answered));
	text(parts.disk, vitals.disk_free_bytes === null ? 'in memory' : bytes(vitals.disk_free_bytes));
	text(parts.snapshot, vitals.snapshot_bytes === 0 ? 'none' : bytes(vitals.snapshot_bytes));
	text(parts.version, vitals.version);
	const unreached = vitals.unreached.filter((other) => facts.alive.has(other));
	text(parts.links, unreached.length > 0 ? `does not reach ${unreached.map(name).join(', ')}` : '');
}

const isOut = (members, me) => members.some((member) => member.id === me && member.state === 'Shutdown');

/** The state of all in a sentence or two. */
function headline(members, me) {
	if (members.length === 0) return ['This node is not a member of a cluster yet.', 'It is starting, or joining: its log says why that takes time.'];
	if (isOut(members, me)) return ['This node takes no part in its cluster any more.', 'Below is what it knew last, and who answers it. How the cluster is now another member knows.'];
	const voters = members.filter((member) => member.suffrage === 'Voter');
	const up = voters.filter((member) => member.state !== 'Lost' && member.state !== 'Shutdown');
	const quorum = Math.floor(voters.length / 2) + 1;
	const leader = members.find((member) => member.state === 'Leader');
	const learners = members.length - voters.length;
	const spare = up.length - quorum;
	const first = leader
		? `${name(leader.id)} leads in term ${leader.vitals?.term ?? '?'}.`
		: spare < 0 ? `Seen from ${name(me)} there is no leader, and there can be none.` : 'There is no leader now.';
	const votes = up.length === voters.length ? `${voters.length === 1 ? 'Its one voter answers' : `All ${voters.length} voters answer`}` : `${up.length} of ${many(voters.length, 'voter')} ${up.length === 1 ? 'answers' : 'answer'}`;
	const left = spare < 0
		? `${quorum} are needed, so nothing can be written until ${-spare === 1 ? 'one more is' : `${-spare} more are`} back.`
		: voters.length === 1 ? 'nothing can be written without it.' : spare === 0 ? 'if one more is lost, nothing can be written.' : `the cluster can lose ${spare} and still write.`;
	return [`${first} ${votes}; ${left}`, `${learners > 0 ? `${many(learners, 'learner')} beside ${learners === 1 ? 'it' : 'them'}. ` : ''}Each lane is what that member says of itself, asked by ${name(me)} once a second.`];
}

async function change(context, path, options, done) {
	text(context.said, 'Under way…');
	try {
		await get(path, { ...options, patience: 65_000 });
		text(context.said, done);
		say(done);
		context.said.className = 'good-text';
	} catch (error) {
		context.said.className = 'bad-text';
		text(context.said, error instanceof Lost ? 'The node does not answer; the change may still be made. Look at the lanes.' : shown(error.message, 800));
	}
}

async function lead(id, context) {
	const now = context.members.find((member) => member.state === 'Leader');
	const yes = await confirm(`Make ${client(id)} the leader?`, [
		now ? `${client(now.id)} hands over to it once it has all of the log. Then it begins an election and wins a new term, which takes a few milliseconds.` : 'There is no leader now that could hand over; this will be refused.',
		'Requests wait meanwhile; none is refused for it.'], 'Make leader', false);
	if (yes) change(context, `hraftd/raft/leader?id=${encodeURIComponent(id)}`, { method: 'POST' }, `${client(id)} leads now.`);
}

function consequences(id, members) {
	const member = members.find((one) => one.id === id);
	const voters = members.filter((one) => one.suffrage === 'Voter');
	const rest = voters.filter((one) => one.id !== id);
	const up = rest.filter((one) => one.vitals);
	const quorum = Math.floor(rest.length / 2) + 1;
	const said = [];
	if (member?.suffrage !== 'Voter') said.push('It has no vote: nothing changes for writes.');
	else if (rest.length === 0) said.push('It is the only voter. This will be refused: a cluster without a voter is none.');
	else {
		const spare = rest.length - quorum;
		said.push(`${rest.length === 1 ? 'One voter is left' : `${rest.length} voters are left`}, and a quorum of them is ${quorum}. ${spare === 0 ? 'Then the loss of any one of them stops all writes.' : `${spare} of them may be lost.`}`);
		if (rest.length === 1) said.push(`${client(rest[0].id)} would be alone: there would be no second copy of anything that is written from then on.`);
		if (up.length < quorum) said.push(`Only ${up.length} of these answer now: no quorum would be left, so this will be refused.`);
	}
	if (member?.state === 'Leader') said.push('It leads now. It hands over first, and another leads.');
	said.push('The node takes no part any more. Its data stays in its directory; to bring it back, stop it, delete that directory and start it with --rjoin.');
	return said;
}

async function remove(id, context) {
	if (await confirm(`Remove ${client(id)} from the cluster?`, consequences(id, context.members), 'Remove it')) {
		change(context, `hraftd/raft/remove?id=${encodeURIComponent(id)}`, { method: 'DELETE' }, `${client(id)} is no member any more.`);
	}
}

const finding = ({ severity, what, evidence, node, do: remedy }) =>
	h('li', {}, h('span', { class: `sev ${severity}` }, { critical: 'Critical', warning: 'Warning', info: 'To know' }[severity] ?? severity),
		h('div', {}, h('p', {}, h('span', { class: 'mono' }, client(node)), ': ', flags(shown(brief(what), 600))),
			h('p', { class: 'do' }, flags(capital(shown(remedy, 600)))),
			Object.keys(evidence).length > 0 && h('p', { class: 'num soft' }, Object.entries(evidence).map(([key, value]) => `${key.replaceAll('_', ' ')}: ${value}`).join(', '))));

export function mount(root, context) {
	const { signal, shared } = context;
	const lead = h('p', { class: 'lead' }, 'Asking the members…');
	const under = h('p', { class: 'under' });
	const list = h('div', { class: 'lanes' });
	const rows = h('div');
	const said = h('p', { role: 'status' });
	const doctor = h('div', {}, note('Examining…'));
	const adding = h('div');
	const lanes = new Map();
	const local = { ...context, said, members: [] };
	// Without members there is nothing to look at, and nothing to add a node to.
	const of = h('section', { 'aria-label': 'Members', hidden: true }, h('p', { class: 'soft caption' }, 'Bars are the newest entries of the logs, on one scale. Dark: applied; lighter: committed; grey: in the log only.'), list, h('details', {}, h('summary', {}, 'The same as a table'), rows));
	const more = h('section', { hidden: true }, h('div', { class: 'head' }, h('h2', {}, 'Add a node')), adding);
	put(root, lead, under, of, said,
		h('section', {}, h('div', { class: 'head' }, h('h2', {}, 'What is wrong'), soft('as hraftd doctor says')), doctor), more);

	function paint(members, me) {
		local.members = members;
		of.hidden = more.hidden = members.length === 0;
		const [first, second] = headline(members, me);
		text(lead, first);
		text(under, second);
		const all = members.filter((member) => member.vitals).map((member) => member.vitals);
		const newest = Math.max(0, ...all.map((vitals) => vitals.commit_index));
		const end = Math.max(1, ...all.map((vitals) => vitals.last_log_index));
		const lowest = Math.min(end, ...all.map((vitals) => vitals.applied_index));
		const from = Math.max(0, end - Math.max(24, (end - lowest) * 1.25));
		const facts = { me, isOut: isOut(members, me), hasLeader: members.some((member) => member.state === 'Leader'), newest, scale: [from, end], alive: new Set(members.filter((member) => member.vitals).map((member) => member.id)) };
		for (const [id, parts] of lanes) {
			if (members.some((member) => member.id === id)) continue;
			parts.root.remove();
			lanes.delete(id);
		}
		members.forEach((member, at) => {
			if (!lanes.has(member.id)) lanes.set(member.id, lane(member.id, local));
			const parts = lanes.get(member.id);
			if (list.children[at] !== parts.root) list.insertBefore(parts.root, list.children[at] ?? null);
			paintLane(parts, member, facts);
		});
		put(rows, table('Members, as a table', ['Member', 'State', '#Term', '#Voted for', '#Log', '#Committed', '#Applied', '#Flush p99', '#Version'],
			members.map(({ id, state, vitals }) => h('tr', {}, h('th', { scope: 'row', class: 'mono' }, client(id)), h('td', {}, state), ...(vitals ? [vitals.term, name(vitals.voted_for), vitals.last_log_index, vitals.commit_index, vitals.applied_index, ms(vitals.flush_p99_ms), vitals.version] : ['', '', '', '', '', '', '']).map((cell) => h('td', { class: 'num' }, cell))))));
		const command = `hraftd --haddr HOST:PORT --rjoin ${members.filter((member) => member.vitals).map((member) => client(member.id)).join(',') || client(me)}`;
		if (local.command !== command) {
			local.command = command;
			put(adding, note('On the machine that is to be a member, with an address of its own in place of HOST:PORT. It joins by itself, and has a vote once it has the log; with ', h('code', { class: 'num' }, '--non-voter'), ' it stays a learner.'),
				h('div', { class: 'command' }, h('code', {}, command), copier('Copy', command)));
		}
	}

	often(EVERY_MS, signal, async () => {
		try {
			const { json } = await get('hraftd/raft/members', { signal });
			shared.me = json.node;
			shared.alive = json.members.filter((member) => member.vitals).map((member) => member.id);
			if (json.members.length > 0) context.noteMembers(json.members.map((member) => member.id));
			paint(json.members, json.node);
			// Lanes and findings are not to contradict one another for long.
			const states = json.members.map((member) => member.state).join();
			if (local.states !== undefined && local.states !== states) examine().catch(() => null);
			local.states = states;
		} catch (error) {
			if (error instanceof Refused && context.refused(error)) return;
			throw error;
		}
	});

	const examine = async () => {
		const [found, cluster] = await Promise.all([get('hraftd/raft/doctor', { signal }), ask('hraftd/raft/cluster', { signal })]);
		const { findings } = found.json;
		// The doctor says the same of silent members, even numbers and certificates, and more.
		const warnings = (cluster.json?.warnings ?? []).filter((what) => !findings.some((one) => what.includes(one.what)) && (findings.length === 0 || !/ voters (do not answer|survive)/.test(what)));
		put(doctor, findings.length + warnings.length === 0
			? h('p', { class: 'good-text' }, 'Nothing: the doctor finds no fault.')
			: h('ul', { class: 'findings' }, findings.map(finding), warnings.map((what) => h('li', {}, h('span', { class: 'sev warning' }, 'Warning'), h('p', {}, shown(what, 600))))));
	};
	often(DOCTOR_EVERY_MS, signal, examine);
}
