import assert from 'node:assert/strict';
import { test } from 'node:test';
import { explain, Failure, timedOut } from './failure.ts';
import { KubeError } from './kube/status.ts';

test('a failure is its sentence, its hint and its exit code', () => {
  const failure = new Failure('no such cluster', { hint: 'there are: us', exitCode: 2 });
  assert.deepEqual(explain(failure), { text: 'Error: no such cluster\n💡 there are: us', exitCode: 2 });
});

test('an API server that does not answer is no defect of ours', () => {
  const cause = Object.assign(new Error('connect ECONNREFUSED 172.18.1.2:6443'), {
    code: 'ECONNREFUSED',
    syscall: 'connect',
  });
  const { text } = explain(new Error('GET https://172.18.1.2:6443/api: connect ECONNREFUSED', { cause }));
  assert.match(
    text,
    /^Error: GET https:\/\/172\.18\.1\.2:6443\/api: connect ECONNREFUSED\n💡 is the cluster up/,
  );
});

test('an API server that hangs is no defect of ours', () => {
  const cause = timedOut('no answer after 30000 ms');
  const { text } = explain(new Error('GET https://172.18.1.2:6443/api: no answer after 30000 ms', { cause }));
  assert.equal(
    text,
    'Error: GET https://172.18.1.2:6443/api: no answer after 30000 ms\n💡 is the cluster up, and is it the one you mean (--context, --kubeconfig)?',
  );
});

test('a refusal of the API server keeps its words', () => {
  const status = { kind: 'Status', reason: 'Forbidden', message: 'pods is forbidden' };
  assert.equal(
    explain(new KubeError('GET /api/v1/pods', 403, status)).text,
    'Error: GET /api/v1/pods: 403 Forbidden: pods is forbidden',
  );
});

test('anything else shows where it was thrown', () => {
  assert.match(explain(new TypeError('x is undefined')).text, /^Error: TypeError: x is undefined\n {4}at /);
});
