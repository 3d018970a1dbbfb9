import assert from 'node:assert/strict';
import { test } from 'node:test';
import { datapathKinds } from './layout.ts';
import { type MirrorReport, Relay } from './mirror-report.ts';
import { describeState, probeWarnings, type RemoteFacts, stateOf } from './remote-state.ts';
import { remoteStates } from './remote-status.ts';

/** A cluster that is well, 100 s after the reader began. */
const well: RemoteFacts = {
  now: 100_000,
  kinds: datapathKinds,
  synced: new Set(datapathKinds),
  connected: true,
  refusal: undefined,
  relay: undefined,
  withdrawn: false,
  silentSince: undefined,
  lostAt: undefined,
  failure: '',
  deadSince: undefined,
  unheardBy: [],
  unheardUntil: 0,
  accused: [],
  silent: false,
  blind: false,
};
const lost = { connected: false, lostAt: 93_000, failure: 'tcp: no answer after 3000 ms' } as const;
const dead = { deadSince: 95_000, unheardBy: ['us-a', 'us-b'] } as const;

/** A mirror that said this 10 s ago; undefined: that says nothing. */
function relay(report: Partial<MirrorReport> | undefined): Relay {
  const found = new Relay();
  if (report === undefined) found.missing(90_000);
  else
    found.heard(
      { mirror: 'm', clusterId: 2, state: 'ready', status: '', answers: true, blind: false, ...report },
      90_000,
    );
  return found;
}

const cases: readonly (readonly [
  name: string,
  facts: Partial<RemoteFacts>,
  state: string,
  line: string | RegExp,
])[] = [
  ['well', {}, 'ready', 'ready'],
  [
    'never reached, nothing tried yet',
    { synced: new Set(), connected: false },
    'disconnected',
    'not connected yet',
  ],
  [
    'never reached',
    { synced: new Set(), connected: false, failure: 'dns: eu.example.com: not found' },
    'disconnected',
    'dns: eu.example.com: not found',
  ],
  [
    'connected, nothing read yet',
    { synced: new Set() },
    'connected',
    'synchronization in progress for nodes, identities, endpoints, services',
  ],
  [
    'half read',
    { synced: new Set(['nodes', 'identities'] as const) },
    'syncing',
    'synchronization in progress for endpoints, services',
  ],
  [
    'its configuration is not accepted',
    { refusal: 'cluster ID 1 of eu is that of this cluster (us)' },
    'refused',
    'cluster ID 1 of eu is that of this cluster (us)',
  ],
  [
    'lost',
    lost,
    'stale',
    'not connected for 7 s, what is known of it is that old: tcp: no answer after 3000 ms',
  ],
  [
    'no heartbeat',
    { silentSince: -30_000 },
    'stale',
    'no heartbeat for 130 s: what is known of it is that old',
  ],
  [
    'left in peace',
    { ...lost, withdrawn: true },
    'disconnected',
    /^not connected for 7 s; before, it took back all it had told, as with clustermesh disable or uninstall: tcp/,
  ],
  [
    'dead',
    { ...lost, ...dead, unheardUntil: 100_000 },
    'dead',
    'dead for 5 s: no new connections are sent to it; none of its nodes answers us-a, us-b, nor its control plane: tcp: no answer after 3000 ms',
  ],
  [
    'dead, and everything answers again',
    { ...dead, unheardBy: [] },
    'dead',
    'dead for 5 s: no new connections are sent to it; its nodes and its control plane answer again, what it says is being read',
  ],
  [
    'dead, and its nodes alone answer again',
    { ...lost, ...dead, unheardBy: [], unheardUntil: 98_000 },
    'dead',
    'dead for 5 s: no new connections are sent to it; its nodes answer again for 2 s, its control plane does not: tcp: no answer after 3000 ms',
  ],
  ['behind a mirror that hears it', { relay: relay({}) }, 'ready', 'ready'],
  [
    'behind a mirror that does not hear it',
    { relay: relay({ state: 'stale', status: 'not connected for 3 s' }) },
    'stale',
    'its mirror m says: not connected for 3 s',
  ],
  [
    'behind a mirror to which it is dead: that is for each reader to say',
    { relay: relay({ state: 'dead', status: 'dead for 1 s', answers: false }) },
    'stale',
    'its mirror m says: dead for 1 s',
  ],
  [
    'behind a mirror that is gone',
    { relay: relay(undefined) },
    'stale',
    'its mirror has been silent for 10 s: what is known of it is that old',
  ],
  [
    'behind a mirror of which nothing was read yet',
    { relay: new Relay() },
    'syncing',
    'waiting for what its mirror says',
  ],
];

for (const [name, change, state, line] of cases)
  test(`${name}: ${state}`, () => {
    const facts = { ...well, ...change };
    assert.equal(stateOf(facts), state);
    const said = describeState(facts);
    if (typeof line === 'string') assert.equal(said, line);
    else assert.match(said, line);
  });

test('every state is among these cases', () => {
  assert.deepEqual(new Set(cases.map(([, , state]) => state)), new Set(remoteStates));
});

test('what probes find of a cluster that stays in service is a warning', () => {
  assert.deepEqual(probeWarnings(well), []);
  assert.deepEqual(probeWarnings({ ...well, unheardBy: ['us-a', 'us-b'] }), [
    'none of its nodes answers us-a, us-b, but its control plane does: its backends stay in service',
  ]);
  assert.deepEqual(probeWarnings({ ...well, blind: true }), [
    'its own API server does not answer its control plane: which of its nodes are dead our probes say',
  ]);
  const accused = [{ cluster: 'eu', node: 'eu-b', by: ['us-a', 'us-b'], agreed: true }];
  assert.deepEqual(probeWarnings({ ...well, accused }), [], 'it speaks for itself');
  assert.deepEqual(probeWarnings({ ...well, accused, silent: true }), [
    'its node eu-b does not answer us-a, us-b, and its control plane cannot say whether it is dead',
  ]);
  assert.deepEqual(
    probeWarnings({ ...well, ...lost, ...dead, accused, silent: true }),
    [],
    'all of it is dead',
  );
});
