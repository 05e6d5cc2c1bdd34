// The events of all members, in one row: kept for as long as the page is open, the newest of them.

import { ask, BY_PAGE, follow, get, lines, session, url } from './api.js';

/** So many events are kept, and a few more between two looks. */
export const KEPT = 5_000;
const SPARE = 200;

/** What happens often: told in flows, not one by one. */
export const FLOW = new Set(['append', 'commit', 'apply', 'heartbeat', 'read_index']);

const blank = () => ({ role: null, term: 0, leads: 0, votedFor: null, last: 0, commit: 0, applied: 0, lost: false, seen: 0 });

/** What the events up to some point say of the members: by node, and the terms of the log. */
export class Picture {
	constructor() {
		this.nodes = new Map();
		/** `[index, term]`: from that index on, entries are of that term. */
		this.terms = [];
		/** From that index on, the terms of entries are not known yet: a later term was heard of, and no election. */
		this.unsure = null;
		this.leader = null;
	}

	copy() {
		const other = new Picture();
		for (const [id, node] of this.nodes) other.nodes.set(id, { ...node });
		other.terms = this.terms.slice();
		other.unsure = this.unsure;
		other.leader = this.leader;
		return other;
	}

	node(id) {
		let node = this.nodes.get(id);
		if (!node) this.nodes.set(id, (node = blank()));
		return node;
	}

	/** The term of an entry; `null` where it was written before anything was seen. */
	termOf(index) {
		if (this.unsure && index >= this.unsure.from) return null;
		let term = null;
		for (const [from, of] of this.terms) {
			if (from > index) break;
			term = of;
		}
		return term;
	}

	take(event) {
		if (event.event === 'seed') {
			this.seed(event.members);
			if (event.terms?.length > 0) this.learn(event.terms);
			return;
		}
		const { event: kind, index, term, action } = event;
		const node = this.node(event.node);
		if (term > node.term && kind !== 'pre_vote' && !(kind === 'timeout') && !(kind === 'vote' && action !== 'asked')) {
			node.term = term;
			node.votedFor = null;
		}
		const known = this.terms.length > 0 ? (this.terms[this.terms.length - 1][1] ?? 0) : 0;
		if (kind !== 'pre_vote' && kind !== 'elected' && term > known && !this.unsure) {
			this.unsure = { from: Math.max(0, ...[...this.nodes.values()].map((one) => one.last)) + 1, term };
		}
		if (event.peer && !this.nodes.has(event.peer) && event.peer.includes(',')) this.node(event.peer);
		switch (kind) {
			case 'role':
				node.role = roleOf(event);
				if (node.role === 'Leader') this.lead(event.node, term);
				break;
			case 'timeout':
				node.role = 'Candidate';
				break;
			case 'vote':
				if (action === 'asked') {
					node.role = 'Candidate';
					node.votedFor = event.node;
				} else if (action === 'granted' && event.text.startsWith(`${event.node} votes`)) {
					node.votedFor = event.peer;
				}
				break;
			case 'elected':
				this.lead(event.node, term);
				node.last = Math.max(node.last, index);
				this.terms = this.terms.filter(([from, of]) => from < index || of > term);
				if (this.unsure && this.unsure.term < term && this.unsure.from < index) this.terms.push([this.unsure.from, null]);
				this.unsure = null;
				this.terms.push([index, term]);
				this.terms.sort(([a], [b]) => a - b);
				if (this.terms.length > 200) this.terms.shift();
				break;
			case 'append':
				// What a leader says of a member names what that has; what a follower says is of itself.
				if (event.match === undefined) {
					node.last = Math.max(node.last, index);
					node.role ??= 'Follower';
				} else {
					node.last = Math.max(node.last, index);
					if (event.peer) {
						const peer = this.node(event.peer);
						peer.last = Math.max(peer.last, event.match);
					}
				}
				break;
			case 'conflict':
				if (/ drops what follows /.test(event.text)) node.last = Math.min(node.last, index);
				break;
			case 'commit':
				node.commit = Math.max(node.commit, index);
				node.last = Math.max(node.last, index);
				break;
			case 'apply':
				node.applied = Math.max(node.applied, index);
				node.commit = Math.max(node.commit, index);
				node.last = Math.max(node.last, index);
				break;
			case 'membership':
			case 'snapshot':
				node.last = Math.max(node.last, kind === 'membership' ? index : 0);
				break;
			case 'peer': {
				const other = event.peer && this.node(event.peer);
				if (other && / cannot be followed/.test(event.text)) other.lost = true;
				else if (other && / is followed again/.test(event.text)) other.lost = false;
				break;
			}
			case 'stopping':
				node.role = 'Shutdown';
				break;
			default:
		}
		// A leader has what it sent, and knows first what is committed, even if it tells so a moment later.
		const leader = this.leader && this.nodes.get(this.leader);
		if (leader && leader.leads === term && leader !== node && FLOW.has(kind)) {
			leader.last = Math.max(leader.last, node.last);
			leader.commit = Math.max(leader.commit, node.commit);
		}
		if (kind !== 'peer') {
			node.lost = false;
			node.seen = event.at;
		}
	}

	lead(id, term) {
		for (const [other, node] of this.nodes) if (other !== id && node.role === 'Leader') node.role = 'Follower';
		const node = this.node(id);
		node.role = 'Leader';
		node.leads = term;
		node.votedFor = id;
		this.leader = id;
	}

	/** The terms of entries, as the log of the node asked has them. */
	learn(terms) {
		this.terms = terms.map(({ index, term }) => [index, term]);
		const known = terms[terms.length - 1].term;
		if (this.unsure && this.unsure.term <= known) this.unsure = null;
	}

	/** What members say of themselves when the page comes. */
	seed(members) {
		for (const { id, state, vitals } of members) {
			const node = this.node(id);
			node.lost = state === 'Lost';
			if (!vitals) continue;
			node.role = state;
			node.term = Math.max(node.term, vitals.term);
			node.votedFor = vitals.voted_for;
			node.last = Math.max(node.last, vitals.last_log_index);
			node.commit = Math.max(node.commit, vitals.commit_index);
			node.applied = Math.max(node.applied, vitals.applied_index);
			if (state === 'Leader') {
				this.leader = id;
				node.leads = vitals.term;
			}
			if (state !== 'Leader' && this.leader === id) this.leader = null;
		}
	}
}

function roleOf({ text, node }) {
	const word = text.slice(node.length).match(/^ is (Leader|Learner|Follower|Candidate|Shutdown)/)?.[1];
	return word ?? 'Follower';
}

/** All of it. */
class History extends EventTarget {
	constructor() {
		super();
		this.events = [];
		/** How many were dropped before the first that is kept. */
		this.dropped = 0;
		/** What was so before the first that is kept. */
		this.base = new Picture();
		this.missed = 0;
		this.state = 'wait';
		this.error = null;
		this.begun = false;
		this.version = 0;
		this.latest = null;
	}

	/** Begins, where nobody has yet; it goes on from then. */
	begin() {
		if (this.begun) return;
		this.begun = true;
		this.stop = new AbortController();
		follow(() => 'hraftd/raft/events?all', this.stop.signal, (event) => this.take(event), (state, error) => {
			this.state = state;
			this.error = error ?? null;
			if (state === 'refused') {
				this.stop.abort();
				this.begun = false;
			}
			this.tell();
			if (state === 'open') this.recall();
		});
	}

	/** Begins anew, with nothing. */
	forget() {
		this.stop?.abort();
		Object.assign(this, { events: [], dropped: 0, base: new Picture(), begun: false, recalled: false, state: 'wait', error: null });
		this.tell();
	}

	/** What the node asked has kept of the time before, and how the members are now. */
	async recall() {
		const members = await ask('hraftd/raft/members').catch(() => null);
		if (members?.ok) {
			for (const { id } of members.json.members) this.base.node(id);
			// What they were before is not known, but for the node that is asked.
			this.events.push({ event: 'seed', at: Date.now(), members: members.json.members, terms: members.json.terms });
		}
		if (this.recalled) {
			this.tell();
			return;
		}
		this.recalled = true;
		const live = new Set(this.events.map(keyOf));
		const stop = new AbortController();
		const found = [];
		let quiet = setTimeout(() => stop.abort(), 1_000);
		// Where it never is quiet, it has come to what is told live long before.
		const enough = setTimeout(() => stop.abort(), 2_500);
		try {
			const response = await fetch(url('hraftd/raft/events?history'), { headers: { ...BY_PAGE, Accept: 'application/x-ndjson' }, signal: stop.signal });
			if (response.ok) {
				for await (const event of lines(response)) {
					if (!event || event.event === 'alive' || event.event === 'missed') continue;
					if (live.has(keyOf(event))) break;
					found.push(event);
					clearTimeout(quiet);
					quiet = setTimeout(() => stop.abort(), 300);
				}
			}
		} catch {
			// It has no end but this.
		}
		stop.abort();
		clearTimeout(quiet);
		clearTimeout(enough);
		const now = new Set(this.events.map(keyOf));
		const before = found.filter((event) => !live.has(keyOf(event)) && !now.has(keyOf(event)));
		const recalled = before.slice(-KEPT / 2).map((event) => ({ ...event, at: Date.parse(event.time), recalled: true }));
		this.events = [...recalled, ...this.events].sort((a, b) => a.at - b.at);
		this.base = new Picture();
		for (const { id } of members?.json?.members ?? []) this.base.node(id);
		// What is committed now had the same term then.
		if (members?.json?.terms?.length > 0) this.base.learn(members.json.terms);
		this.trim();
		this.tell();
	}

	take(event) {
		if (!event || event.event === 'alive') return;
		if (event.event === 'missed') {
			this.missed += 1;
			return;
		}
		event.at = Date.parse(event.time);
		// Members tell at their own pace: one that is a little late goes where it belongs, by its time.
		let place = this.events.length;
		while (place > 0 && place > this.events.length - 300 && this.events[place - 1].at > event.at) place -= 1;
		this.events.splice(place, 0, event);
		this.trim();
		this.tell();
	}

	trim() {
		const over = this.events.length - KEPT;
		if (over <= SPARE) return;
		for (const event of this.events.splice(0, over)) this.base.take(event);
		this.dropped += over;
	}

	/**
	 * Looks whether members are what their events made of them: a leader that lost its quorum does not say so itself. What
	 * was seen twice is so.
	 */
	async check(signal) {
		const { json } = await get('hraftd/raft/members', { signal });
		const picture = this.picture(this.events.length);
		const other = json.members.filter(({ id, state, vitals }) => vitals && picture.nodes.get(id)?.role !== state);
		const signs = other.map(({ id, state }) => `${id} ${state}`).join();
		if (other.length > 0 && signs === this.doubt) {
			this.events.push({ event: 'seed', at: Date.now(), members: other });
			this.trim();
			this.tell();
		}
		this.doubt = signs;
	}

	/** The picture after the first `count` events that are kept. */
	picture(count) {
		const isLatest = count === this.events.length;
		if (isLatest && this.latest?.version === this.version) return this.latest.picture.copy();
		const picture = this.base.copy();
		for (let at = 0; at < count; at += 1) picture.take(this.events[at]);
		if (isLatest) this.latest = { version: this.version, picture: picture.copy() };
		return picture;
	}

	tell() {
		this.version += 1;
		if (this.told) return;
		this.told = true;
		// Together: a burst of events is one change.
		setTimeout(() => {
			this.told = false;
			this.dispatchEvent(new Event('change'));
		}, 50);
	}
}

const keyOf = (event) => `${event.node} ${event.time} ${event.event} ${event.index} ${event.text}`;

export const history = new History();

// Whoever signs in next may see less.
session.addEventListener('needed', () => history.forget());
