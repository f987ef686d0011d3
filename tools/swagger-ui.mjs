// Walks Swagger UI as an administrator would: Authorize, run what goes out with the examples as they stand, create an
// account, push a mail, see it in the queue.
// Needs POSTROOM_URL, POSTROOM_ADMIN_USER and POSTROOM_ADMIN_PASSWORD (tools/with-sandbox.sh sets them) and Chromium.
import { randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

// What depends on the API: the operations walked through, and how their answers are read.
const OPERATIONS = {
  createAccount: 'create_account',
  activateAccount: 'activate_account',
  pushMessage: 'push_message',
  listQueues: 'list_queues',
  listQueueItems: 'list_queue_items',
};
// These tags' operations are executed without a change to what the page shows, in an order in which the sandbox's samples
// (src/sandbox/samples.rs) allow them; of a tag, what is not named below comes first.
const EXAMPLES_OF = ['templates', 'outcomes', 'lists', 'broadcasts', 'campaigns', 'messages', 'suppressions', 'customers'];
const IN_THIS_ORDER = [
  'update_template', 'preview_template', 'create_template_attachment', 'test_send_template', 'delete_template_attachment', 'publish_template',
  'revise_template', 'archive_template',
  'update_campaign', 'start_campaign', 'suspend_campaign', 'resume_campaign', 'replace_list_message_rules',
  'delete_list_message_rules', 'create_attempt', 'create_attempt_by_ref', 'redial_customer', 'set_customer_callback',
  'clear_customer_callback', 'terminate_customer', 'put_import_rows', 'update_broadcast',
  'preflight_broadcast', 'test_send_broadcast', 'start_broadcast', 'cancel_broadcast', 'cancel_message', 'stop_campaign',
  'erase_customer', 'delete_template_partial', 'delete_suppression', 'delete_template',
];
// These need a state that no sample has, and say so.
const NOT_AS_THEY_STAND = {
  retry_message: 'nothing failed',
  pause_broadcast: 'it does not run', resume_broadcast: 'it is not paused', retry_failed_broadcast: 'nobody failed',
  delete_broadcast: 'it was begun', delete_campaign: 'it has a list', delete_list: 'it has a customer',
  delete_customer: 'they were tried', delete_outcome: 'an attempt has it', cancel_import: 'its rows were taken',
};
const STATUS_OF_CREATED = [200, 201, 202];
const newAccount = (name, queue) => ({
  channel: 'email', address: `${name}@centre.test`, inbound: { protocol: 'push' }, fallback_queue_id: queue.id,
});
const newMail = (name, subject) => [
  'From: Chris Customer <chris@customer.test>',
  `To: ${name}@centre.test`,
  `Subject: ${subject}`,
  `Message-ID: <${randomUUID()}@customer.test>`,
  'Date: Mon, 05 Jan 2026 10:00:00 +0000',
  '',
  'My order has not come.',
  '',
].join('\n');

const DEADLINE_MS = 90_000;
const EXECUTABLES = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
const FLAGS = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--disable-dev-shm-usage', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync', '--no-proxy-server',
];
const screenshot = process.argv[2]
  ?? join(dirname(fileURLToPath(import.meta.url)), '..', 'docs', 'swagger-ui.png');

function required(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: run this through tools/with-sandbox.sh`);
  return value;
}

function check(condition, message) {
  if (!condition) throw new Error(message);
}

async function authorize(page, user, password) {
  await page.locator('.auth-wrapper button.authorize').first().click();
  const form = page.locator('.auth-container', { has: page.locator('input[name=username], #oauth_username') }).first();
  await form.locator('#oauth_username, input[name=username]').first().fill(user);
  await form.locator('#oauth_password, input[name=password]').first().fill(password);
  await form.locator('button.authorize').click();
  // The form is replaced once the login has worked: in both flows, which share one scheme.
  await page.locator('.modal-ux .auth-container button', { hasText: 'Logout' }).first().waitFor();
  await page.locator('.modal-ux .btn-done').first().click();
}

// Runs one operation through "Try it out" and gives what the page shows: { status, body }.
async function execute(page, operationId, { parameters = {}, body, file } = {}) {
  const block = page.locator(`.opblock[id$="-${operationId}"]`);
  check(await block.count() === 1, `the page has ${await block.count()} operations called ${operationId}`);
  if (!(await block.evaluate((node) => node.classList.contains('is-open')))) {
    await block.locator('.opblock-summary-control').click();
  }
  await block.locator('button.try-out__btn', { hasText: 'Try it out' }).click();
  for (const [name, value] of Object.entries(parameters)) {
    await block.locator(`tr[data-param-name="${name}"] input`).fill(value);
  }
  if (body !== undefined) await block.locator('.body-param__text').fill(body);
  if (file !== undefined) {
    const buffer = Buffer.from(file);
    await block.locator('.opblock-section-request-body input[type=file]')
      .setInputFiles({ name: 'mail.eml', mimeType: 'message/rfc822', buffer });
  }
  await block.locator('button.execute').click();
  const live = block.locator('.live-responses-table');
  await live.locator('.response-col_status').last().waitFor();
  const status = Number.parseInt(await live.locator('tbody .response-col_status').first().innerText(), 10);
  const shown = live.locator('.response-col_description .highlight-code code').first();
  const text = await shown.count() ? await shown.innerText() : '';
  console.log(`swagger-ui: ${operationId} → ${status}`);
  return { status, text, block };
}

function parsed({ status, text }, operationId, statuses) {
  check(statuses.includes(status), `${operationId} answered ${status}: ${text}`);
  return JSON.parse(text);
}

async function walk(page) {
  const name = `swagger-${randomUUID().slice(0, 8)}`;
  const subject = `Order ${name}`;
  const run = async (key, options, statuses = [200]) =>
    parsed(await execute(page, OPERATIONS[key], options), OPERATIONS[key], statuses);

  const queue = (await run('listQueues')).items[0];
  check(queue, 'there is no queue');
  const account = await run('createAccount', { body: JSON.stringify(newAccount(name, queue), null, 2) }, STATUS_OF_CREATED);
  if (account.state === 'draft') await run('activateAccount', { parameters: { id: account.id } });
  await run('pushMessage', { parameters: { id: account.id }, file: newMail(name, subject) }, STATUS_OF_CREATED);
  const items = await execute(page, OPERATIONS.listQueueItems, { parameters: { id: queue.id } });
  check(items.status === 200 && items.text.includes(subject), `the mail "${subject}" is not in the queue: ${items.text}`);
  return items.block;
}

// The document with the operations of one tag and what they refer to: Swagger UI takes seconds to resolve each operation of
// the whole one.
function part(document, tag) {
  const paths = {};
  for (const [path, operations] of Object.entries(document.paths)) {
    const chosen = Object.entries(operations).filter(([, operation]) => operation.tags[0] === tag);
    if (chosen.length) paths[path] = Object.fromEntries(chosen);
  }
  const kept = { ...document, paths, components: { securitySchemes: document.components.securitySchemes } };
  for (let ahead = [JSON.stringify(paths)]; ahead.length;) {
    for (const [, kind, name] of ahead.pop().matchAll(/"#\/components\/(\w+)\/([^"]+)"/g)) {
      kept.components[kind] ??= {};
      if (kept.components[kind][name]) continue;
      kept.components[kind][name] = document.components[kind][name];
      ahead.push(JSON.stringify(document.components[kind][name]));
    }
  }
  return kept;
}

// Executes what the page shows, one tag after the other; gives the operations that were not answered with 2xx.
async function runExamples(page, url, login) {
  const document = await (await fetch(`${url}/v1/openapi.json`)).json();
  const operations = Object.values(document.paths).flatMap(Object.values)
    .filter((operation) => EXAMPLES_OF.includes(operation.tags[0]));
  const ids = operations.map((operation) => operation.operationId);
  const unknown = [...IN_THIS_ORDER, ...Object.keys(NOT_AS_THEY_STAND)].filter((id) => !ids.includes(id));
  check(unknown.length === 0, `the document has no ${unknown.join(', ')}`);
  const rank = (id) => IN_THIS_ORDER.indexOf(id);
  const refused = [];
  let ran = 0;
  for (const tag of EXAMPLES_OF) {
    await page.route('**/v1/openapi.json', (route) => route.fulfill({ json: part(document, tag) }));
    await open(page, url, login);
    const mine = operations.filter((operation) => operation.tags[0] === tag).map((operation) => operation.operationId)
      .filter((id) => !(id in NOT_AS_THEY_STAND)).sort((a, b) => rank(a) - rank(b));
    for (const id of mine) {
      const { status, text, block } = await execute(page, id);
      if (status >= 200 && status <= 299) ran += 1;
      else refused.push(`${id} → ${status}: ${text.slice(0, 300)}`);
      await block.locator('.opblock-summary-control').click();
    }
    await page.unroute('**/v1/openapi.json');
  }
  console.log(`swagger-ui: the examples of ${ran} of ${ids.length} operations run as they stand; not run: `
    + Object.entries(NOT_AS_THEY_STAND).map(([id, why]) => `${id} (${why})`).join(', '));
  return refused;
}

async function open(page, url, { user, password }) {
  await page.goto(`${url}/swagger-ui/`);
  await page.locator('.opblock').first().waitFor();
  await authorize(page, user, password);
}

async function main() {
  const [url, user, password] = ['URL', 'ADMIN_USER', 'ADMIN_PASSWORD'].map((part) => required(`POSTROOM_${part}`));
  const executablePath = EXECUTABLES.find((path) => path && existsSync(path));
  check(executablePath, 'Chromium is not installed (tools/setup.sh tools)');
  const profile = mkdtempSync(join(tmpdir(), 'postroom-chromium-'));
  const complaints = [];
  const context = await chromium.launchPersistentContext(profile, {
    executablePath, args: FLAGS, viewport: { width: 1280, height: 1000 },
  });
  try {
    const page = context.pages()[0] ?? await context.newPage();
    page.setDefaultTimeout(DEADLINE_MS);
    page.on('pageerror', (error) => complaints.push(`script error: ${error.message}`));
    page.on('requestfailed', (request) => complaints.push(`no answer: ${request.url()} (${request.failure()?.errorText})`));
    page.on('request', (request) => {
      const target = new URL(request.url());
      if (target.protocol.startsWith('http') && target.origin !== new URL(url).origin) complaints.push(`request to elsewhere: ${request.url()}`);
    });
    const refused = await runExamples(page, url, { user, password });
    check(refused.length === 0, `examples that do not run as they stand:\n${refused.join('\n')}`);
    await open(page, url, { user, password });
    const block = await walk(page);
    await block.locator('.live-responses-table').scrollIntoViewIfNeeded();
    mkdirSync(dirname(screenshot), { recursive: true });
    await page.screenshot({ path: screenshot });
    check(complaints.length === 0, complaints.join('\n'));
    console.log(`swagger-ui: passed; ${screenshot}`);
  } finally {
    await context.close();
    rmSync(profile, { recursive: true, force: true });
  }
}

main().catch((error) => {
  console.error(`swagger-ui: ${error.message}`);
  process.exitCode = 1;
});
