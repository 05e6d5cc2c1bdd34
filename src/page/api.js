// The API of the node that served this page, as any client asks it. Paths are relative: a proxy may have put it below one.

const ROOT = new URL('../', document.baseURI);

/** The node does not answer. */
export class Lost extends Error {}

/** It answers, and refuses. */
export class Refused extends Error {
	constructor(answer) {
		super(answer.json?.msg ?? `${answer.status}`);
		this.answer = answer;
		this.status = answer.status;
		this.code = answer.json?.code ?? '';
	}
}

/** What is known of the connection; `change` is told as an event. */
export const link = new EventTarget();
link.lostSince = null;

function heard(isThere) {
	const was = link.lostSince;
	link.lostSince = isThere ? null : (was ?? Date.now());
	if ((was === null) !== isThere) link.dispatchEvent(new Event('change'));
}

/** Whatever asks who one is. */
export const session = new EventTarget();

function refusedSession(status) {
	if (status === 401) session.dispatchEvent(new Event('needed'));
}

/** Says that a page asks: a refusal is not to open the browser's own box for passwords. */
export const BY_PAGE = { 'X-Requested-With': 'hraftd-page' };

export const url = (path) => new URL(path, ROOT);

/**
 * Asks. The answer has `status`, `headers`, `text` and `json` (undefined where it is none).
 * Throws `Lost`, or `DOMException` where `signal` ended it.
 */
export async function ask(path, { method = 'GET', body, headers, signal, patience = 15_000 } = {}) {
	let response;
	let content;
	try {
		const limit = AbortSignal.timeout(patience);
		response = await fetch(url(path), {
			method, body, headers: { ...BY_PAGE, ...headers }, cache: 'no-store', redirect: 'error', credentials: 'same-origin',
			signal: signal ? AbortSignal.any([signal, limit]) : limit,
		});
		content = await response.text();
	} catch (error) {
		if (signal?.aborted) throw error;
		heard(false);
		throw new Lost('the node does not answer');
	}
	heard(true);
	refusedSession(response.status);
	let json;
	if ((response.headers.get('content-type') ?? '').startsWith('application/json')) {
		try {
			json = JSON.parse(content);
		} catch {
			json = undefined;
		}
	}
	return { status: response.status, ok: response.ok, headers: response.headers, text: content, json };
}

/** Asks, and throws `Refused` for what is no success. */
export async function get(path, options) {
	const answer = await ask(path, options);
	if (!answer.ok) throw new Refused(answer);
	return answer;
}

/** Waits, or until the signal. */
export function pause(time, signal) {
	return new Promise((done) => {
		const end = () => {
			clearTimeout(timer);
			signal?.removeEventListener('abort', end);
			done();
		};
		const timer = setTimeout(end, time);
		signal?.addEventListener('abort', end);
	});
}

/** Does something again and again, `every` so often, while the page is seen; it begins at once. */
export async function often(every, signal, work) {
	while (!signal.aborted) {
		if (!document.hidden) {
			try {
				await work();
			} catch (error) {
				if (!(error instanceof Lost) && !(error instanceof Refused) && !signal.aborted) throw error;
			}
		}
		await pause(every, signal);
	}
}

/** The objects of a body of JSON lines. A line is at most `most` characters; a longer one is told as `null`. */
export async function* lines(response, most = 2_000_000) {
	const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
	let left = '';
	let tooLong = false;
	for (;;) {
		const { done, value } = await reader.read();
		if (done) return;
		left += value;
		let end;
		while ((end = left.indexOf('\n')) >= 0) {
			const line = left.slice(0, end);
			left = left.slice(end + 1);
			if (tooLong) {
				tooLong = false;
				yield null;
			} else if (line) {
				yield JSON.parse(line);
			}
		}
		if (left.length > most) {
			left = '';
			tooLong = true;
		}
	}
}

/**
 * Follows a stream of JSON lines for as long as the signal lets it, and begins anew where it broke off.
 * `path()` says where to go on. `on(object)`, `onState('open' | 'lost' | 'refused', error)`.
 */
export async function follow(path, signal, on, onState = () => {}) {
	let wait = 250;
	while (!signal.aborted) {
		try {
			const response = await fetch(url(path()), {
				headers: { ...BY_PAGE, Accept: 'application/x-ndjson' }, cache: 'no-store', credentials: 'same-origin', signal,
			});
			heard(true);
			refusedSession(response.status);
			if (!response.ok) {
				let json;
				try {
					json = await response.json();
				} catch {
					json = undefined;
				}
				onState('refused', new Refused({ status: response.status, json }));
			} else {
				onState('open');
				wait = 250;
				for await (const object of lines(response)) {
					if (signal.aborted) return;
					on(object);
				}
				onState('lost');
			}
		} catch (error) {
			if (signal.aborted) return;
			onState('lost', error);
			heard(false);
		}
		await pause(wait, signal);
		wait = Math.min(wait * 2, 3_000);
	}
}

/**
 * A key in a path. Its slashes stay, unless a part of it is `.` or `..`, which browsers would resolve; a key that is nothing
 * else cannot be asked for by a path at all.
 */
export function inPath(key) {
	const encoded = encodeURIComponent(key);
	return key.split('/').some((part) => part === '.' || part === '..') ? encoded : encoded.replace(/%2F/g, '/');
}
