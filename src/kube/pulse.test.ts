import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Pulse } from './pulse.ts';
import { KubeError } from './status.ts';

/** An API server that does what `answer` says; by default asked as quickly as can be. */
function world(t: { after(end: () => void): void }, answer: () => unknown, interval = 1) {
  const stop = new AbortController();
  t.after(() => stop.abort());
  let changed = Promise.withResolvers<boolean>();
  let asked = 0;
  const state = { isFollowing: true, answer };
  const pulse = new Pulse({
    ask: async () => {
      asked++;
      const said = state.answer();
      if (said instanceof Error) throw said;
    },
    isFollowing: () => state.isFollowing,
    interval,
    hold: 1,
    again: 1,
    signal: stop.signal,
    onChange: silent => {
      changed.resolve(silent);
      changed = Promise.withResolvers();
    },
  });
  /** Resolves after so many more questions. */
  const questions = async (count: number): Promise<void> => {
    const wanted = asked + count;
    while (asked < wanted) await new Promise(resolve => setTimeout(resolve, 5));
  };
  return { state, pulse, questions, next: () => changed.promise };
}

test('an API server is silent after two questions without an answer, and until it is followed again', async t => {
  const { state, pulse, questions, next } = world(t, () => new Error('connect ECONNREFUSED'));
  assert.equal(await next(), true);
  assert.ok(pulse.silentFor !== undefined);
  state.isFollowing = false;
  state.answer = () => 'an object';
  await questions(3);
  assert.equal(pulse.silent, true);
  state.isFollowing = true;
  assert.equal(await next(), false);
  assert.equal(pulse.silentFor, undefined);
});

test('a refusal is an answer, an error of its storage is none', async t => {
  const { state, pulse, questions, next } = world(t, () => new KubeError('GET', 404, ''));
  await questions(4);
  assert.equal(pulse.silent, false);
  state.answer = () => new KubeError('GET', 500, 'etcdserver: request timed out');
  assert.equal(await next(), true);
});

test('whoever has a reason to doubt it does not wait for the next question', async t => {
  const { pulse, next } = world(t, () => new Error('connect ECONNREFUSED'), 3_600_000);
  pulse.doubt();
  assert.equal(await next(), true);
});
