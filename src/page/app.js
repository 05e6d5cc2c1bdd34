// The frame of the page: which view is shown, who is asked, and what is wrong with the connection.

import { ask, get, link, Lost, often, pause, Refused, session, url } from './api.js';
import { brief, capital, client, flags, h, put, say, shown, text } from './dom.js';

const VIEWS = {
	cluster: { name: 'Cluster', grant: 'status', load: () => import('./cluster.js') },
	live: { name: 'Raft, live', grant: 'status', load: () => import('./live.js') },
	write: { name: 'A write', grant: 'write:', load: () => import('./write.js') },
	keys: { name: 'Keys', grant: 'read:', load: () => import('./keys.js') },
	watch: { name: 'Watch, locks', grant: 'read:', load: () => import('./watch.js') },
};

const main = document.getElementById('main');
const banner = document.getElementById('banner');
const asked = document.getElementById('asked');
const nav = document.getElementById('nav');

/** What all views share. `members` are full ids, as far as they were heard of; `me` is who was asked. */
const shared = { me: null, members: [], alive: [], who: null };

/** After so long without an answer the page goes on at another member. */
const GONE_MS = 20_000;
let stays = false;

let current = null;

const route = () => {
	const [name, ...rest] = location.hash.slice(1).split('/');
	let argument = rest.join('/');
	try {
		argument = decodeURIComponent(argument);
	} catch {
		argument = '';
	}
	return { name: VIEWS[name] ? name : 'cluster', argument };
};

put(nav, Object.entries(VIEWS).map(([id, view]) => h('a', { href: `#${id}`, id: `nav-${id}` }, view.name)));

/** Tells the members that were heard of: where to go when this one is gone. */
function noteMembers(ids) {
	if (ids.length > 0) shared.members = ids;
}

/** The page of another member, at the same view. */
const elsewhere = (id) => `${location.protocol}//${client(id)}${location.pathname}${location.hash}`;

async function show(isOther = true) {
	const { name, argument } = route();
	if (current?.name === name && isOther && current.view?.move) {
		current.view.move(argument);
		return;
	}
	current?.stop.abort();
	const stop = new AbortController();
	current = { name, stop, view: null };
	for (const id of Object.keys(VIEWS)) {
		const anchor = document.getElementById(`nav-${id}`);
		if (id === name) anchor.setAttribute('aria-current', 'page');
		else anchor.removeAttribute('aria-current');
	}
	document.title = `${VIEWS[name].name} · hraftd`;
	const module = await VIEWS[name].load();
	if (stop.signal.aborted) return;
	put(main, h('h1', { class: 'unseen' }, VIEWS[name].name));
	main.className = `view-${name}`;
	const root = h('div', { class: 'view' });
	main.append(root);
	const context = { signal: stop.signal, argument, shared, noteMembers, elsewhere, refused: (error) => refused(root, name, error) };
	current.view = module.mount(root, context) ?? null;
}

/** A view that the grants do not cover says so. True where that is what was wrong. */
function refused(root, name, error) {
	if (!(error instanceof Refused)) return false;
	if (error.status === 403) {
		const has = shared.who ? `The token “${shared.who.name}” has: ${shared.who.grants.join(', ') || 'no grants'}.` : '';
		put(root, h('section', { class: 'empty', role: 'alert' },
			h('p', { class: 'empty-title' }, 'This token may not see that'),
			h('p', {}, shown(error.message)), h('p', {}, has),
			h('p', {}, h('button', { onclick: () => signIn() }, 'Sign in with another token'))));
		return true;
	}
	return error.status === 401;
}

let signingIn = false;

function signIn(why = '') {
	if (signingIn) return;
	signingIn = true;
	current?.stop.abort();
	current = null;
	const field = h('input', { id: 'token', type: 'password', autocomplete: 'current-password', required: true, 'aria-describedby': 'token-why' });
	const wrong = h('p', { id: 'token-why', class: 'wrong', role: 'alert' }, why);
	const enter = async (event) => {
		event.preventDefault();
		text(wrong, '');
		try {
			const answer = await ask('hraftd/auth/session', { method: 'POST', headers: { Authorization: `Bearer ${field.value.trim()}` } });
			if (!answer.ok) throw new Refused(answer);
			field.value = '';
			signingIn = false;
			localStorage.setItem('hraftd-signed-in', '1');
			await whoAmI();
			show(false);
		} catch (error) {
			text(wrong, error instanceof Lost ? 'The node does not answer.' : shown(error.message));
			field.focus();
		}
	};
	main.className = 'view-signin';
	put(main, h('form', { class: 'signin', onsubmit: enter },
		h('h1', {}, 'Sign in'),
		h('p', {}, 'This cluster asks who you are. Give a token, as ', h('code', {}, 'hraftd token'), ' or an administrator made it. The browser keeps a session of twelve hours, and not the token.'),
		h('input', { type: 'text', autocomplete: 'username', value: 'token', hidden: true }), h('label', { for: 'token' }, 'Token'), field, wrong,
		h('div', { class: 'buttons' }, h('button', { type: 'submit', class: 'main' }, 'Sign in'))));
	field.focus();
}

session.addEventListener('needed', () => {
	if (signingIn) return;
	const had = shared.who !== null;
	shared.who = null;
	localStorage.removeItem('hraftd-signed-in');
	signIn(had ? 'The session has ended: the token was revoked, its time is up, or twelve hours have passed. Sign in again.' : '');
	paintAsked();
});

async function whoAmI() {
	// Who has not signed in is nobody, and where authentication is off there is nobody to be.
	if (!localStorage.getItem('hraftd-signed-in')) return;
	const answer = await ask('hraftd/auth/whoami').catch(() => null);
	shared.who = answer?.ok ? answer.json : null;
	paintAsked();
}

async function signOut() {
	await ask('hraftd/auth/session', { method: 'DELETE' }).catch(() => null);
	localStorage.removeItem('hraftd-signed-in');
	location.reload();
}

let health = { text: 'connecting', kind: 'wait', more: null };

function paintAsked() {
	const name = shared.me ? client(shared.me) : location.host;
	put(asked,
		h('span', { class: `dot ${health.kind}`, 'aria-hidden': 'true' }),
		h('span', { class: 'mono', title: 'the node that this page asks' }, name),
		h('span', { class: 'asked-state' }, health.text),
		shared.who && shared.who.means !== 'nothing' ? [h('span', { class: 'mono' }, shown(shared.who.name, 64)), h('button', { class: 'quiet', onclick: signOut }, 'Sign out')] : null);
}

const isLoopback = (host) => /^(localhost|127\.[\d.]+|\[::1\])$/.test(host);

/** Whether this page came by the node's own address: others, too, are then reached by theirs. Through a tunnel they are not. */
function isDirect() {
	if (!shared.me) return false;
	const own = new URL(`${location.protocol}//${client(shared.me)}`);
	return own.host === location.host || (own.port === location.port && isLoopback(own.hostname) && isLoopback(location.hostname));
}

/** The member at which the page goes on where this one stays away: one that answered lately. */
const next = () => (stays || !isDirect() ? undefined : shared.alive.find((id) => id !== shared.me));

/** A machine without a network has itself. */
const isOnline = () => navigator.onLine || /^(localhost$|127\.|\[::1)/.test(location.hostname);

/** Goes there, unless somebody is at work here. */
function goOn() {
	const isAtWork = document.querySelector('dialog, .editor, .signin') !== null;
	if (link.lostSince !== null && Date.now() - link.lostSince > GONE_MS && next() && isOnline() && !document.hidden && !isAtWork) location.href = elsewhere(next());
}

// Nobody was asked meanwhile.
document.addEventListener('visibilitychange', () => {
	if (!document.hidden && link.lostSince !== null) link.lostSince = Date.now();
});

function stay() {
	stays = true;
	paint();
}

function paintBanner() {
	const others = shared.members.filter((id) => id !== shared.me);
	const links = others.length > 0
		? h('p', {}, 'Go on at another member: ', others.map((id) => [h('a', { href: elsewhere(id), class: 'mono' }, client(id)), ' ']))
		: null;
	if (link.lostSince !== null) {
		const name = shared.me ? client(shared.me) : location.host;
		put(banner, h('div', { class: 'banner bad' }, h('p', {}, h('strong', {}, `${name} does not answer. `), 'What is shown is of before. It is asked again and again, and the page goes on by itself.',
			next() && [` After ${GONE_MS / 1000} s it goes on at ${client(next())}. `, h('button', { class: 'quiet', onclick: stay }, 'Stay here')]), links));
	} else if (health.more) {
		put(banner, h('div', { class: `banner ${health.kind}` }, h('p', {}, flags(capital(shown(brief(health.more), 1500)))), ['removed', 'diverged', 'not_ready'].includes(health.code) ? links : null));
	} else {
		put(banner);
	}
}

let painted = '';
function paint() {
	const now = JSON.stringify([health, link.lostSince, shared, stays, location.hash]);
	if (now === painted) return;
	painted = now;
	paintAsked();
	paintBanner();
}

link.addEventListener('change', () => {
	if (link.lostSince !== null) health = { text: 'does not answer', kind: 'bad', more: null };
	say(link.lostSince === null ? 'The node answers again' : 'The node does not answer');
	paint();
});

const never = new AbortController().signal;

setInterval(goOn, 1_000);

often(2_000, never, async () => {
	const ready = await ask('hraftd/raft/ready', { patience: 4_000 });
	const code = ready.json?.code;
	if (ready.ok) health = { text: 'answers', kind: 'good', more: null };
	else if (code === 'no_leader') health = { text: 'no leader', kind: 'warn', more: ready.json.msg, code };
	else health = { text: code === 'not_ready' ? 'not ready' : shown(code ?? 'refuses', 40), kind: 'warn', more: ready.json?.msg ?? `It answers ${ready.status}.`, code };
	paint();
});

/** Who this is, and who else there is: for the links above, whatever view is open. */
async function lookAround() {
	const answer = await ask('hraftd/raft/cluster').catch(() => null);
	if (!answer?.ok) return;
	shared.me = answer.json.current.id;
	noteMembers(answer.json.servers.map((server) => server.id));
	shared.alive = answer.json.servers.filter(({ state }) => state !== 'Lost' && state !== 'Shutdown').map((server) => server.id);
	paint();
}

(async () => {
	for (;;) {
		if (!document.hidden && !signingIn) await lookAround();
		await pause(10_000, never);
	}
})();

document.getElementById('skip').addEventListener('click', (event) => {
	event.preventDefault();
	main.focus();
});
addEventListener('hashchange', () => {
	if (!signingIn) show();
	paint();
});

get('').then((answer) => {
	put(document.getElementById('foot'), h('span', {}, `hraftd ${answer.json.version}`), h('span', {}, h('a', { href: url('openapi.json').href }, 'API')), h('span', {}, 'All that this page does, it does by that API.'));
}).catch(() => null);

paint();
show();
whoAmI();
