import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type AuthorityData, certificatesIn, rotateOnce, stageOf } from './authority-rotation.ts';
import { createAuthority, isSignedBy, issueCertificate } from './x509.ts';

const year = 365 * 86_400_000;
const now = new Date('2026-02-03T04:05:06Z');
const later = new Date(now.getTime() + year);

const next = async (data: AuthorityData): Promise<AuthorityData> => {
  const merged = { ...data, ...(await rotateOnce(data, 'us', now)) };
  return Object.fromEntries(Object.entries(merged).flatMap(([key, value]) => (value ? [[key, value]] : [])));
};
/** A certificate made at a stage. */
const signed = async (data: AuthorityData): Promise<string> => {
  const authority = { cert: data['ca.crt']!, key: data['ca.key']! };
  const pair = await issueCertificate(authority, {
    ...{ commonName: 'remote-eu', usages: ['client'], notBefore: now, notAfter: later },
  });
  return pair.cert;
};
/** Whether somebody who has learnt whom to trust at one stage trusts what was signed at another. */
const trusts = async (trusting: AuthorityData, cert: string): Promise<boolean> => {
  const found = await Promise.all(certificatesIn(trusting['ca.crt']!).map(each => isSignedBy(cert, each)));
  return found.includes(true);
};

test('from one CA to another: each stage trusts what the stages beside it have signed', async () => {
  const { cert, key } = await createAuthority('CA of us', now, later);
  const stages: AuthorityData[] = [{ 'ca.crt': cert, 'ca.key': key }];
  for (let at = 0; at < 3; at++) stages.push(await next(stages[at]!));
  assert.deepEqual(stages.map(stageOf), ['settled', 'announced', 'changed', 'settled']);
  const certificates = await Promise.all(stages.map(signed));
  for (const [at, data] of stages.entries())
    for (const beside of [at - 1, at, at + 1])
      if (certificates[beside] !== undefined)
        assert.ok(await trusts(data, certificates[beside]), `stage ${at} trusts what stage ${beside} signed`);
  assert.equal(await trusts(stages[3]!, certificates[0]!), false, 'the old CA is trusted no more');
  assert.deepEqual(Object.keys(stages[3]!).sort(), ['ca.crt', 'ca.key'], 'no key is left over');
});
