import assert from 'node:assert/strict';
import { test } from 'node:test';
import { natPorts } from './nat-ports.ts';

const nodePorts = { min: 30_000, max: 32_767 };

test('the usual node: below the NodePorts', () => {
  assert.deepEqual(natPorts({ min: 32_768, max: 60_999 }, nodePorts), { min: 16_384, max: 29_999 });
});

test('a node whose sockets use low ports: above them', () => {
  assert.deepEqual(natPorts({ min: 1024, max: 50_000 }, nodePorts), { min: 50_001, max: 65_535 });
});

test('no room is an error that says what takes it', () => {
  assert.throws(() => natPorts({ min: 1024, max: 65_535 }, nodePorts), /1024 ports.*1024 to 65535/);
});
