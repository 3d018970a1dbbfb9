import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RemoteBackends } from '../loadbalancer/remote-service.ts';
import { backendsColumn } from './backends-column.ts';

const http = { http: { protocol: 'TCP', port: 8080 } } as const;

test('backends are read as they were written, in their order, whatever their ports are', () => {
  const column = backendsColumn();
  column.grow(1);
  const cases: RemoteBackends[] = [
    [],
    [{ '10.2.0.4': http }],
    [{ '10.2.0.4': {}, '10.2.0.5': {} }],
    [
      { '10.2.0.4': http, '10.2.0.5': { ...http } },
      { 'fd00::1': { '': { protocol: 'UDP', port: 53 } }, '10.2.0.3': http },
    ],
    [{ '10.2.0.4': { 'a b\n{}': { protocol: 'SCTP', port: 0 }, '"ü': { protocol: 'TCP', port: 1 } } }],
    [{ '10.2.0.9': {}, '10.2.0.1': http, '10.2.0.2': {} }],
  ];
  for (const backends of cases) {
    column.write(0, backends);
    const entries = (of: RemoteBackends): unknown => of.flatMap(part => Object.entries(part));
    assert.deepEqual(entries(column.read(0)), entries(backends));
  }
});
