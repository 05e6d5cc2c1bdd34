// What each kind of event means, and where the paper has it: “In Search of an Understandable Consensus Algorithm”, the
// extended version; and Ongaro's dissertation for what came later.

const PAPER = 'Ongaro and Ousterhout, “In Search of an Understandable Consensus Algorithm (Extended Version)”';
const THESIS = 'Ongaro, “Consensus: Bridging Theory and Practice” (dissertation)';

const of = (title, says, where, source = PAPER) => ({ title, says, where: where ? `${where}. ${source}` : 'Not in the paper: hraftd does this beside Raft' });

const MEANINGS = {
	timeout: of('An election begins', [
		'A node that hears no leader for its election timeout assumes that there is none, and stands itself.',
		'Each waits a random time, so that rarely two stand at once. The reason says what made it certain here: silence, a handover, or a leader whose process is gone.',
	], '§5.2, Leader election'),
	'pre_vote asked': of('Would you vote for me?', [
		'Before it raises its term a node asks whether it would be elected. The question changes nothing anywhere: no term, no vote.',
		'So a node that was cut off, and whose term would otherwise have grown all the while, does not depose a healthy leader when it returns.',
	], '§9.6, Preventing disruptions when a server rejoins the cluster', THESIS),
	'pre_vote granted': of('It would vote for it', [
		'The voter hears no leader either, and the candidate’s log has all that its own has. It promises nothing: only a real vote counts.',
	], '§9.6', THESIS),
	'pre_vote refused': of('It would not vote for it', [
		'The voter hears a leader, or has entries that the candidate lacks. The candidate stays a follower, and the term stays as it is.',
	], '§9.6', THESIS),
	'vote asked': of('It asks for a vote', [
		'The candidate is in a new term and has voted for itself. It names the last entry of its log, so that a voter can compare.',
	], '§5.2 and figure 2, RequestVote RPC'),
	'vote granted': of('A vote is given', [
		'A node votes once in a term, first come first served, and only for a log that is at least as up to date as its own: a later last term, or the same and no shorter.',
		'The vote is on its disk before the answer leaves. If it could be forgotten, there could be two leaders in one term.',
	], '§5.2; §5.4.1, Election restriction'),
	'vote refused': of('A vote is refused', [
		'The voter is in a later term, has voted for another in this one, or has entries that the candidate lacks. The last is what keeps every committed entry: whoever lacks one cannot win.',
	], '§5.4.1, Election restriction'),
	term: of('A new term', [
		'Terms are Raft’s clock. Each begins with an election, and has one leader at most. Whoever hears of a later one enters it at once, and steps down if it led.',
	], '§5.1, Raft basics'),
	role: of('Another role', [
		'A node is a follower, a candidate or a leader; hraftd’s learners follow without a vote. All changes between them are caused by a term, a timeout or a majority.',
	], '§5.1 and figure 4'),
	elected: of('It leads', [
		'A majority voted for it. It may not count copies of entries of earlier terms to commit them, so it first writes an empty entry of its own; once that is committed, so is all before it.',
	], '§5.4.2, Committing entries from previous terms; §8'),
	append: of('Entries travel', [
		'The leader sends entries, each message naming the entry before. A follower takes them only if it has that one, writes them to its disk, and answers how far it has come.',
		'What happens often is told together, once in 250 ms: the times of a single entry are under “A write”.',
	], '§5.3, Log replication'),
	commit: of('Entries are committed', [
		'A majority has them on its disks, and one of them is of the leader’s term. From now on they are in the log of every leader to come.',
		'Followers learn of it with the next message, a little later than the leader.',
	], '§5.3 and §5.4'),
	apply: of('Entries are applied', [
		'The node gives committed entries to its state machine, all nodes in the same order. The client is answered when the node it asked has done that.',
	], '§5.3'),
	heartbeat: of('Heartbeats', [
		'Without anything to send the leader calls all the same, so that nobody stands against it.',
	], '§5.2'),
	read_index: of('A read is confirmed', [
		'A leader that was cut off does not know it. Before it answers a linearizable read it lets a majority confirm that it still leads. One round serves all reads that wait.',
	], '§8, Client interaction; §6.4 of the dissertation'),
	conflict: of('Logs differ', [
		'A node has entries that its leader has not: they were never committed. The leader goes back to the last entry that both have, and what follows there is replaced.',
		'Nothing that was acknowledged to a client is among what is dropped.',
	], '§5.3 and figure 7'),
	snapshot: of('A snapshot', [
		'The state up to an entry is written as a whole, so that the log before it may go. A follower that needs what is gone gets the snapshot instead.',
	], '§7, Log compaction'),
	membership: of('The members change', [
		'The set of voters is itself an entry of the log. Between the old and the new set stands a joint one, which needs a majority of both: so two leaders cannot be elected by two sets.',
	], '§6, Cluster membership changes'),
	transfer: of('Leadership is handed over', [
		'The leader waits until the other has all of its log, and then tells it to stand at once, without waiting for a timeout.',
	], '§3.10, Leadership transfer extension', THESIS),
	takeover: of('A dead leader is replaced at once', [
		'Every voter keeps a request open at the leader. When that breaks and a majority has seen the same, the voter with the most log stands without waiting for its timeout. It still needs a majority of votes.',
	], null),
	peer: of('A member is lost', [
		'It is not heard of any more. Whether Raft can go on without it depends on how many are left.',
	], null),
	'peer back': of('A member is back', [
		'It is heard of again. It gets the entries that it lacks, or a snapshot where these are gone.',
	], null),
	stopping: of('A node stops', [
		'It was asked to. If it leads, it hands over first.',
	], null),
	flow: of('Entries flow', [
		'The leader sends entries to all, a majority has them on disk, they are committed, and all apply them in the same order. A column is at most one second of that.',
		'Lines are entries on their way; a filled square on a lane says that the node knows them to be committed.',
	], '§5.3, Log replication; figure 2, AppendEntries RPC'),
};

/** What a kind of event means: its title, paragraphs, and where to read on. */
export const meaning = (kind, action) => MEANINGS[action ? `${kind} ${action}` : kind] ?? MEANINGS[kind] ?? of(kind, [], null);
