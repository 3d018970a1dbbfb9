import assert from 'node:assert/strict';
import { test } from 'node:test';
import { entriesOf } from './mesh-connect.ts';

test('clusters in a map by name are the same as in a list: connect writes the list back', () => {
  const eu = { ips: ['172.18.2.2'], port: 32380 };
  const list = { clustermesh: { config: { clusters: [{ name: 'eu', ...eu }, { name: 'ap' }] } } };
  const map = { clustermesh: { config: { clusters: { eu, ap: null } } } };
  assert.deepEqual(entriesOf(list), [{ name: 'eu', ...eu }, { name: 'ap' }]);
  assert.deepEqual(entriesOf(map), [{ ...eu, name: 'eu' }, { name: 'ap' }]);
  assert.deepEqual(entriesOf({}), []);
});
