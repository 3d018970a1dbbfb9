import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { Failure } from '../failure.ts';
import { findContext } from './kubeconfig.ts';

const folder = mkdtempSync(join(tmpdir(), 'isthmus-kubeconfig-'));
after(() => rmSync(folder, { recursive: true }));

function kubeconfig(contexts: readonly string[], current = ''): string {
  const path = join(folder, `${contexts.join('+')}-${current}.yaml`);
  const entries = contexts.map(name => ({ name, context: { cluster: name, user: name } }));
  writeFileSync(path, JSON.stringify({ 'current-context': current, contexts: entries }));
  return path;
}

test('a context is found exactly, then as isthmus-, then as kind-', () => {
  const path = kubeconfig(['us', 'isthmus-us', 'kind-us', 'isthmus-eu', 'kind-eu', 'kind-ap']);
  assert.equal(findContext('us', path), 'us');
  assert.equal(findContext('isthmus-us', path), 'isthmus-us');
  assert.equal(findContext('eu', path), 'isthmus-eu');
  assert.equal(findContext('ap', path), 'kind-ap');
});

test('without a name it is the current context', () => {
  assert.equal(findContext(undefined, kubeconfig(['a', 'b'], 'b')), 'b');
});

test('a missing context says which there are', () => {
  const wrong = (find: () => string) =>
    assert.throws(
      find,
      (error: unknown) => error instanceof Failure && /there are: isthmus-us/.test(error.hint ?? ''),
    );
  wrong(() => findContext('ue', kubeconfig(['isthmus-us'])));
  wrong(() => findContext(undefined, kubeconfig(['isthmus-us'], 'gone')));
});

test('a missing kubeconfig is said in one sentence', () => {
  assert.throws(() => findContext('us', join(folder, 'nowhere')), /nowhere/);
});
