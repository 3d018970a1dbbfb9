import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { isMap, isSeq, parseDocument, type YAMLMap, type YAMLSeq } from 'yaml';
import { Failure } from '../failure.ts';

/** What one context needs: a cluster, a user and the context that joins them, all of one name. */
export interface ContextEntry {
  readonly name: string;
  readonly server: string;
  /** PEM texts. */
  readonly authority: string;
  readonly certificate: string;
  readonly key: string;
}

/**
 * The kubeconfig file that is written to, as kind chooses it: the named one; of $KUBECONFIG's list the first
 * that exists, else the last; else ~/.kube/config.
 */
export function kubeconfigTarget(explicit?: string): string {
  if (explicit !== undefined) return explicit;
  const list = (process.env.KUBECONFIG ?? '').split(delimiter).filter(path => path !== '');
  return list.find(path => existsSync(path)) ?? list.at(-1) ?? join(homedir(), '.kube', 'config');
}

/** Adds or replaces contexts and makes the first of them current; everything else in the file stays. */
export async function addContexts(file: string, entries: readonly ContextEntry[]): Promise<void> {
  await edit(file, document => {
    for (const { name, server, authority, certificate, key } of entries) {
      put(list(document, 'clusters'), name, {
        name,
        cluster: { 'certificate-authority-data': base64(authority), server },
      });
      put(list(document, 'users'), name, {
        name,
        user: { 'client-certificate-data': base64(certificate), 'client-key-data': base64(key) },
      });
      put(list(document, 'contexts'), name, { name, context: { cluster: name, user: name } });
    }
    if (entries[0] !== undefined) document.set('current-context', entries[0].name);
  });
}

/** Removes contexts, their clusters and users. A file that is not there is left so. */
export async function removeContexts(file: string, names: readonly string[]): Promise<void> {
  if (!existsSync(file)) return;
  await edit(file, document => {
    for (const section of ['clusters', 'users', 'contexts']) {
      const items = list(document, section);
      items.items = items.items.filter(item => !(isMap(item) && names.includes(String(item.get('name')))));
    }
    if (names.includes(String(document.get('current-context')))) document.set('current-context', '');
  });
}

type KubeconfigDocument = ReturnType<typeof parseDocument>;

async function edit(file: string, change: (document: KubeconfigDocument) => void): Promise<void> {
  mkdirSync(dirname(file), { recursive: true, mode: 0o755 });
  using _lock = await lockFile(file);
  const exists = existsSync(file);
  const text = exists ? readFileSync(file, 'utf8') : '';
  const document = parseDocument(text.trim() === '' ? 'apiVersion: v1\nkind: Config\n' : text);
  const error = document.errors[0];
  if (error !== undefined) throw new Failure(`${file}: ${error.message}`);
  if (!isMap(document.contents)) throw new Failure(`${file}: expected a kubeconfig, found something else`);
  change(document);
  const mode = exists ? statSync(file).mode & 0o777 : 0o600;
  writeFileSync(`${file}.isthmus`, document.toString({ lineWidth: 0, indentSeq: false }), { mode });
  renameSync(`${file}.isthmus`, file);
}

/** The lock that kubectl and kind honour: FILE.lock, made by whoever works on the file. */
async function lockFile(file: string): Promise<Disposable> {
  const lock = `${file}.lock`;
  const end = performance.now() + 10_000;
  for (;;) {
    try {
      writeFileSync(lock, '', { flag: 'wx', mode: 0o600 });
      return { [Symbol.dispose]: () => rmSync(lock, { force: true }) };
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
    }
    if (performance.now() > end) {
      throw new Failure(`${file} is locked by another program`, {
        hint: `if none is running, remove ${lock}`,
      });
    }
    await new Promise(resolve => setTimeout(resolve, 50));
  }
}

function list(document: KubeconfigDocument, section: string): YAMLSeq {
  const found = document.get(section);
  if (isSeq(found)) return found;
  const made = document.createNode([]) as YAMLSeq;
  made.flow = false;
  document.set(section, made);
  return made;
}

function put(items: YAMLSeq, name: string, value: Readonly<Record<string, unknown>>): void {
  const node = new Map(Object.entries(value));
  const at = items.items.findIndex(item => isMap(item) && (item as YAMLMap).get('name') === name);
  if (at < 0) items.add(node);
  else items.set(at, node);
}

function base64(text: string): string {
  return Buffer.from(text).toString('base64');
}
