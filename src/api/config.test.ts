import assert from 'node:assert/strict';
import { test } from 'node:test';
import { duration, listenAddress, parseSettings, sharedSettings } from './config.ts';

test('absent keys have defaults, keys of other daemons are left alone', () => {
  const settings = parseSettings(sharedSettings, {
    'cluster-name': 'us',
    'cluster-id': '1',
    'bpf-root': '/x',
  });
  assert.equal(settings['cluster-id'], 1);
  assert.equal(settings['max-connected-clusters'], 255);
  assert.equal(settings.debug, false);
});

test('every bad key is named with its value and what was expected', () => {
  assert.throws(
    () => parseSettings(sharedSettings, { 'cluster-name': 'US', 'cluster-id': 'one', debug: 'yes' }),
    /cluster-name: found "US", expected 1 to 32.*cluster-id: found "one", expected a whole number from 0 to 511.*debug: found "yes", expected true or false/,
  );
  assert.throws(
    () => parseSettings(sharedSettings, { 'cluster-name': 'us', 'cluster-id': '300' }),
    /cluster-id: found "300", expected 0 to 255/,
  );
  assert.throws(() => parseSettings(sharedSettings, { 'cluster-id': '3' }), /cluster-name: found "default"/);
  assert.throws(
    () => parseSettings(sharedSettings, { 'clustermesh-heartbeat-timeout': '30s' }),
    /clustermesh-heartbeat-timeout: found "30s", expected 70s or more: clusters beat once a minute/,
  );
});

test('addresses and durations', () => {
  const shape = { at: listenAddress(':9963'), for: duration('1m30s') };
  assert.deepEqual(parseSettings(shape, {}), { at: { host: '', port: 9963 }, for: 90_000 });
  assert.deepEqual(parseSettings(shape, { at: '', for: '250ms' }), { at: undefined, for: 250 });
  assert.deepEqual(parseSettings(shape, { at: '[::1]:80' }).at, { host: '::1', port: 80 });
  assert.throws(
    () => parseSettings(shape, { at: 'here', for: '3 days' }),
    /at: found "here".*for: found "3 days"/,
  );
});
