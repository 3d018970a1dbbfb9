/** What scenarios wait for. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Bed, Side } from './bed.ts';
import { type Client, monotonic } from './client.ts';

/** Resolves to what `check` finds; looks again ten times a second. @throws Error when that takes too long */
export async function until<T>(
  what: string,
  seconds: number,
  check: () => T | undefined | false | Promise<T | undefined | false>,
): Promise<T> {
  const end = monotonic() + seconds * 1000;
  for (;;) {
    const found = await check();
    if (found !== undefined && found !== false) return found;
    if (monotonic() > end) throw new Error(`not so within ${seconds} s: ${what}`);
    await sleep(100);
  }
}

/** For what should change nothing: long enough that a client would have seen it. */
export const nothingHappens = (): Promise<void> => sleep(6000);

/** A client whose requests have all been answered for three seconds, by every backend. */
export async function steady(side: Side, remote: string, client = side.client()): Promise<Client> {
  const wanted = [side.cluster.name, remote].flatMap(each => [`${each}-one`, `${each}-two`]);
  await until('every backend answers', 180, () => {
    const recent = client.since(monotonic() - 3000);
    const answered = new Set(recent.map(each => each.by));
    return (
      recent.length > 50 &&
      recent.every(each => each.outcome === 'ok') &&
      wanted.every(each => answered.has(each))
    );
  });
  return client;
}

/** Since `from`, and for two seconds, requests were answered again, and by nobody of that name. */
export function isWithout(client: Client, by: string, from: number): boolean {
  // Those that began later may still be on their way.
  const end = monotonic() - client.patience;
  const begin = end - 2000;
  const recent = client.since(begin).filter(each => each.begin < end);
  return (
    begin > from &&
    recent.length > 10 &&
    recent.every(each => each.outcome === 'ok' && !each.by.startsWith(by))
  );
}

export function answersOf(client: Client, from: number, by: string): string {
  const requests = client.since(from);
  return `${requests.filter(each => each.by.startsWith(by)).length} of ${requests.length} answers from ${by}`;
}

/** What all agents of a cluster call a remote one, each state once: 'ready'. */
export async function stateOf(side: Side, remote: string): Promise<string> {
  const states = await side.states(remote);
  return [...new Set(states.map(each => each.state))].sort().join(' ');
}

/** Each agent of a cluster knows that a remote one does not see its own nodes die. */
export async function isBlind(side: Side, remote: string): Promise<boolean> {
  const states = await side.states(remote);
  return states.every(each => each.warnings.some(warning => warning.includes('its own API server')));
}

/** Gives the pod `<cluster>-one` the label of the service `mark`, or takes it. */
export function mark(side: Side, on: boolean): Promise<string> {
  return side.kubectl('-n', 'chaos', 'label', 'pod', `${side.cluster.name}-one`, on ? 'mark=on' : 'mark-');
}

/** Until nobody carries the label any more, as far as that client sees. */
export async function unmark(bed: Bed, marks: Client): Promise<void> {
  await Promise.all([mark(bed.us, false), mark(bed.eu, false)]);
  await until('nobody is marked', 60, () => {
    const recent = marks.since(monotonic() - 1000);
    return recent.length > 3 && recent.every(each => each.outcome === 'refused');
  });
}
