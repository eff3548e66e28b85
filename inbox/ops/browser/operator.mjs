// An operator's session with the operations page; browser_test.go starts it.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const { CHROMIUM, SCREENSHOTS, PAGE, OPS_USER, OPS_PASSWORD, DEAD, DEAD_E2E, SUPERSEDED } = process.env;

// As root, as in a container, Chromium does not start in its sandbox.
const browser = await chromium.launch({
  executablePath: CHROMIUM,
  args: process.getuid() === 0 ? ['--no-sandbox'] : [],
});

// open returns a page without JavaScript that fails where the content security
// policy forbids something that it needs.
async function open(options) {
  const context = await browser.newContext({
    javaScriptEnabled: false,
    httpCredentials: { username: OPS_USER, password: OPS_PASSWORD },
    locale: 'en',
    colorScheme: 'light',
    timezoneId: 'America/Sao_Paulo',
    ...options,
  });
  const page = await context.newPage();
  page.setDefaultTimeout(15_000);
  page.on('console', (message) => assert.doesNotMatch(message.text(), /Content.Security.Policy/i));
  await page.goto(PAGE);
  return page;
}

async function screenshot(page, name) {
  if (SCREENSHOTS) await page.screenshot({ path: join(SCREENSHOTS, name) });
}

async function search(page, text) {
  await page.getByLabel('Search').fill(text);
  await page.getByRole('button', { name: 'Show' }).click();
}

async function untilDone(page) {
  for (let tries = 0; tries < 100; tries++) {
    if (await page.locator('h3 .state.done').count()) return;
    await page.waitForTimeout(100);
    await page.reload();
  }
  assert.fail(`it is not done: ${await page.locator('main').innerText()}`);
}

async function fits(page) {
  const [content, screen] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
  assert.ok(content <= screen, `${page.url()} is ${content} wide on a screen of ${screen}`);
}

const steps = {
  async 'a wrong password opens nothing'() {
    const context = await browser.newContext({ httpCredentials: { username: OPS_USER, password: 'wrong' } });
    assert.equal((await context.request.get(PAGE)).status(), 401);
  },

  async 'everything fits a phone, light and dark'() {
    for (const colorScheme of ['dark', 'light']) {
      const page = await open({ viewport: { width: 390, height: 844 }, colorScheme });
      await fits(page);
      if (colorScheme === 'light') await screenshot(page, 'ops-phone.png');
      for (const path of [`case/${DEAD}`, '?state=quarantined', '?q=nobody', 'case/nobody']) {
        await page.goto(PAGE + path);
        for (const summary of await page.locator('summary').all()) await summary.click();
        await fits(page);
      }
    }
  },

  async 'a dead letter is found, looked at, replayed, and done'() {
    const page = await open({ viewport: { width: 1280, height: 860 } });
    await screenshot(page, 'ops-cases.png');
    await search(page, DEAD_E2E);
    assert.equal(await page.locator('.list tbody tr').count(), 1);
    assert.match(await page.locator('.list tbody').innerText(), /CANCELLED.*R\$ 1\.234,56.*dead/s);
    await page.getByRole('link', { name: DEAD }).click();
    assert.match(await page.locator('main').innerText(), /the ledger has no entry for order-2207/);
    await page.locator('.dead summary').click();
    assert.match(await page.locator('.dead pre').innerText(), /"medStatus": "CANCELLED"/);
    await screenshot(page, 'ops-case.png');

    const receipt = await page.locator('.dead').getByRole('link', { name: 'Receipt' }).getAttribute('href');
    const pdf = await page.context().request.get(new URL(receipt, page.url()).href);
    assert.equal(pdf.headers()['content-type'], 'application/pdf');
    assert.equal((await pdf.body()).subarray(0, 5).toString(), '%PDF-');

    await page.getByRole('button', { name: 'Replay' }).click();
    assert.match(page.url(), /\/event\/[0-9a-f-]{36}$/);
    await untilDone(page);
    await page.goto(`${PAGE}case/${DEAD}`);
    assert.equal(await page.getByRole('button').count(), 0);
  },

  async 'what is superseded is replayed when asked twice'() {
    const page = await open({ viewport: { width: 1280, height: 860 } });
    await page.goto(`${PAGE}case/${SUPERSEDED}`);
    await page.getByRole('button', { name: 'Replay' }).click();
    assert.match(await page.getByRole('alert').innerText(), /newer notification/);
    await page.getByRole('button', { name: 'Replay anyway' }).click();
    await untilDone(page);
  },

  async 'a quarantined body is shown as it came'() {
    const page = await open({ viewport: { width: 1280, height: 860 } });
    await page.getByLabel('State').selectOption('quarantined');
    await page.getByRole('button', { name: 'Show' }).click();
    await page.locator('.list tbody a').click();
    assert.match(await page.locator('pre').innerText(), /"value": "18,00"/);
    await page.getByRole('button', { name: 'Replay' }).click();
    assert.match(await page.getByRole('alert').innerText(), /still not valid/);
  },

  async 'the keyboard reaches what the mouse does, and shows where it is'() {
    const page = await open({ viewport: { width: 1280, height: 860 } });
    await page.getByLabel('Search').focus();
    await page.keyboard.type(SUPERSEDED.toUpperCase());
    await page.keyboard.press('Enter');
    await page.waitForURL(/[?&]q=/); // the link is on the page before, too
    await page.getByRole('link', { name: SUPERSEDED }).focus();
    await page.keyboard.press('Shift+Tab');
    assert.equal(await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle), 'solid');
  },
};

try {
  for (const [name, step] of Object.entries(steps)) {
    await step();
    console.log(`ok: ${name}`);
  }
} finally {
  await browser.close();
}
