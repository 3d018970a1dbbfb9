import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { parse } from 'yaml';
import { addContexts, kubeconfigTarget, removeContexts } from './kubeconfig-file.ts';

const folder = mkdtempSync(join(tmpdir(), 'isthmus-kubeconfig-file-'));
after(() => rmSync(folder, { recursive: true }));

const entry = (name: string, server = 'https://172.18.1.2:6443') => ({
  name,
  server,
  authority: 'ca',
  certificate: 'certificate',
  key: 'key',
});

test('contexts come and go, and nothing else changes', async () => {
  const file = join(folder, 'config');
  const own = `# mine
apiVersion: v1
kind: Config
clusters:
- cluster:
    server: https://work.example
  name: work
contexts:
- context:
    cluster: work
    user: me
  name: work
current-context: work
preferences: {}
users:
- name: me
  user:
    token: secret
`;
  writeFileSync(file, own, { mode: 0o640 });
  await addContexts(file, [entry('isthmus-us'), entry('isthmus-eu')]);
  const merged = parse(readFileSync(file, 'utf8'));
  assert.deepEqual(
    merged.contexts.map((each: { name: string }) => each.name),
    ['work', 'isthmus-us', 'isthmus-eu'],
  );
  assert.equal(merged['current-context'], 'isthmus-us');
  assert.equal(merged.users[1].user['client-key-data'], Buffer.from('key').toString('base64'));
  assert.equal(statSync(file).mode & 0o777, 0o640);

  await addContexts(file, [entry('isthmus-us', 'https://172.19.1.2:6443')]);
  const again = parse(readFileSync(file, 'utf8'));
  assert.equal(again.clusters.length, 3);
  assert.equal(again.clusters[1].cluster.server, 'https://172.19.1.2:6443');

  await removeContexts(file, ['isthmus-us', 'isthmus-eu']);
  assert.equal(readFileSync(file, 'utf8'), own.replace('current-context: work', 'current-context: ""'));
  assert.ok(!existsSync(`${file}.lock`));
});

test('a file that is not there is made, readable by its owner only', async () => {
  const file = join(folder, 'new', 'config');
  await addContexts(file, [entry('isthmus-us')]);
  assert.equal(statSync(file).mode & 0o777, 0o600);
  assert.equal(parse(readFileSync(file, 'utf8')).kind, 'Config');
  await removeContexts(join(folder, 'nowhere'), ['isthmus-us']);
});

test('writers at the same time wait for one another', async () => {
  const file = join(folder, 'shared');
  await Promise.all(Array.from({ length: 8 }, (_, i) => addContexts(file, [entry(`c${i}`)])));
  assert.equal(parse(readFileSync(file, 'utf8')).contexts.length, 8);
});

test('something else than a kubeconfig is left alone', async () => {
  const file = join(folder, 'list');
  writeFileSync(file, '- 1\n');
  await assert.rejects(addContexts(file, [entry('isthmus-us')]), /expected a kubeconfig/);
  assert.equal(readFileSync(file, 'utf8'), '- 1\n');
});

test('the file is the one that kubectl would write', () => {
  const before = process.env.KUBECONFIG;
  try {
    const [missing, there] = [join(folder, 'missing'), join(folder, 'config')];
    process.env.KUBECONFIG = `${missing}:${there}`;
    assert.equal(kubeconfigTarget(), there);
    process.env.KUBECONFIG = `${missing}:${missing}2`;
    assert.equal(kubeconfigTarget(), `${missing}2`);
    assert.equal(kubeconfigTarget('/x'), '/x');
    delete process.env.KUBECONFIG;
    assert.match(kubeconfigTarget(), /\.kube\/config$/);
  } finally {
    if (before === undefined) delete process.env.KUBECONFIG;
    else process.env.KUBECONFIG = before;
  }
});
