import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Belief, firstBelief, isFresh, nextBelief } from './belief.ts';

const options = { failures: 4, hold: 2000 };
const INTERVAL = 400;

/** A life of rounds: `+` answered, `-` not. Gives a letter a round: `s` silent, `.` not. */
function life(rounds: string, start = firstBelief(options)): { seen: string; belief: Belief } {
  let belief = start;
  let seen = '';
  [...rounds].forEach((round, at) => {
    belief = nextBelief(belief, round === '+', at * INTERVAL, options);
    seen += belief.silent ? 's' : '.';
  });
  return { seen, belief };
}

const cases: readonly [what: string, rounds: string, seen: string][] = [
  ['four in a row', '+++----', '......s'],
  ['three are not enough', '+++---++++++---', '...............'],
  ['three again and again are', '+++---+++---+++', '...........ssss'],
  ['who never answered is not judged', '----------', '..........'],
  ['who has answered once is', '+----', '....s'],
  ['five intervals of answers bring it back', '+----++++++', '....ssssss.'],
  ['an unanswered one starts the wait anew', '+----+++-++++++', '....ssssssssss.'],
  ['loss of one in ten does no harm', '+++++++++-'.repeat(20), '.'.repeat(200)],
];
for (const [what, rounds, seen] of cases) test(what, () => assert.equal(life(rounds).seen, seen));

test('a link that is up and down every second is found out, and not believed while it does so', () => {
  const { seen } = life(`+++${'---++'.repeat(60)}`);
  const first = seen.indexOf('s');
  assert.ok(first > 0 && first * INTERVAL < 10_000, `found out after ${first * INTERVAL} ms`);
  assert.ok(!seen.slice(first).includes('.'), 'and from then on silent');
});

test('who relapses waits twice as long each time, up to a minute', () => {
  let belief = firstBelief(options);
  let now = 0;
  const round = (answered: boolean): void => {
    now += INTERVAL;
    belief = nextBelief(belief, answered, now, options);
  };
  round(true);
  const holds: number[] = [];
  for (let relapse = 0; relapse < 7; relapse++) {
    while (!belief.silent) round(false);
    const from = now;
    while (belief.silent) round(true);
    holds.push(now - from);
  }
  assert.deepEqual(
    holds.map(each => Math.round(each / 1000)),
    [2, 4, 8, 16, 32, 60, 60],
  );
  // A long good time makes up for it.
  for (let at = 0; at < (60 * 60_000) / INTERVAL; at++) round(true);
  while (!belief.silent) round(false);
  assert.equal(belief.hold, options.hold);
});

test('who was silent before the prober began stays so until it answers', () => {
  const { seen } = life('---++++++', firstBelief(options, true));
  assert.equal(seen, 'ssssssss.');
});

test('fresh is who answered one of the last two', () => {
  assert.equal(isFresh(life('+++').belief), true);
  assert.equal(isFresh(life('+++-').belief), true);
  assert.equal(isFresh(life('+++--').belief), false);
  assert.equal(isFresh(life('---').belief), false);
});
