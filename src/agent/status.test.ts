import assert from 'node:assert/strict';
import { test } from 'node:test';
import { agentStatus, type StatusInputs } from './status.ts';

const well: StatusInputs = {
  version: '0.1.0',
  node: 'n1',
  starting: undefined,
  reflections: [
    { path: '/api/v1/services', connected: true, heard: 1000, failing: undefined, bad: new Map() },
  ],
  reconcilers: { ipcache: { pending: 0, quiet: true, failing: new Map(), applied: 3 } },
  endpoints: undefined,
  datapath: { socketServices: 'all', tunnelUnpack: 'program' },
  routingMode: 'tunnel',
  paths: undefined,
  problems: [],
  clusters: [],
  unreachableNodes: [],
  hearsNobody: false,
  apiServerSilent: undefined,
  errors: [],
  warnings: [],
  now: 2000,
};

test('all is well', () => {
  const status = agentStatus(well);
  assert.deepEqual(status.errors, []);
  assert.deepEqual(status.warnings, []);
  assert.deepEqual(status.endpoints, { total: 0, ready: 0 });
});

test('every trouble names its object', () => {
  const status = agentStatus({
    ...well,
    starting: 'Node n1 has no podCIDR',
    reflections: [
      {
        path: '/api/v1/services',
        connected: false,
        heard: 1000,
        failing: new Error('connect ECONNREFUSED'),
        bad: new Map([['ns/web', new Error('spec.ports.0.port: expected number')]]),
      },
    ],
    reconcilers: {
      ipcache: {
        pending: 0,
        quiet: true,
        failing: new Map([['10.0.0.1/32', new Error('map is full')]]),
        applied: 3,
      },
    },
    problems: [{ service: 'ns/web', message: 'annotation x: found "y"' }],
    clusters: [
      {
        name: 'eu',
        ready: false,
        state: 'stale',
        status: 'not connected',
        disconnectedAge: 12,
        lastOutage: { seconds: 31, age: 4 },
        heartbeatAge: 30,
        deadAge: undefined,
        unheardBy: ['n2'],
        errors: ['refused'],
        warnings: ['a value is refused'],
      },
    ],
    now: 61_000,
  });
  assert.deepEqual(status.errors, [
    'not ready: Node n1 has no podCIDR',
    '/api/v1/services cannot be followed (last heard 60 s ago): connect ECONNREFUSED',
    'ipcache 10.0.0.1/32 cannot be written: map is full',
    'cluster eu: refused',
  ]);
  assert.deepEqual(status.warnings, [
    '/api/v1/services ns/web is left out: spec.ports.0.port: expected number',
    'service ns/web: annotation x: found "y"',
    'cluster eu: a value is refused',
  ]);
  assert.deepEqual(status.clusters, [
    {
      name: 'eu',
      ready: false,
      state: 'stale',
      status: 'not connected',
      disconnectedAge: 12,
      lastOutage: { seconds: 31, age: 4 },
      heartbeatAge: 30,
      deadAge: undefined,
      unheardBy: ['n2'],
      warnings: ['a value is refused'],
    },
  ]);
});

test('a node that hears nobody says so, and nodes that are dead are listed', () => {
  const dead = { node: 'n2', by: ['n1', 'n3'], dead: true, age: 4 };
  const status = agentStatus({ ...well, hearsNobody: true, unreachableNodes: [dead] });
  assert.deepEqual(status.warnings, [
    'this node hears none of the nodes that it probes, and says nothing of them',
  ]);
  assert.deepEqual(status.unreachableNodes, [dead]);
  assert.deepEqual(status.errors, []);
});
