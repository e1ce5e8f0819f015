// The console in headless Chromium, before a running `shoal up` whose first model tells stories and
// whose second one, `tools`, has a chat template, and one over two processes:
// node console.mjs URL CHROMIUM FOLDER SPLIT_URL.
//
// Screenshots go to FOLDER. Requests to any other origin are refused and fail the test, and so does
// every line on the browser's console that no check expects.

import assert from "node:assert/strict";
import { join } from "node:path";
import { chromium } from "playwright-core";

const [url, executablePath, folder, splitUrl] = process.argv.slice(2);
const WAIT_MS = 30_000;
const PHONE = { width: 360, height: 740 };
const DESK = { width: 1280, height: 800 };

// Root has no sandbox to put the browser in.
const args = process.getuid() === 0 ? ["--no-sandbox"] : [];
const browser = await chromium.launch({ executablePath, args });
const context = await browser.newContext({ viewport: DESK });
const foreign = [];
const problems = [];
let expected = null;
await context.route("**/*", (route) => {
  const { origin } = new URL(route.request().url());
  if (origin === url || origin === splitUrl) return route.continue();
  foreign.push(route.request().url());
  return route.abort();
});
const page = await context.newPage();
page.setDefaultTimeout(WAIT_MS);
page.on("pageerror", (error) => problems.push(error.stack));
page.on("console", (message) => {
  const text = message.text();
  if (message.type() !== "error" && message.type() !== "warning") return;
  if (!expected?.test(text)) problems.push(text);
});

const $ = (selector) => page.locator(selector);
const turns = () => $("#turns > li");
const answer = () => $("#turns > li.assistant").last();
const shot = (name) => page.screenshot({ path: join(folder, `${name}.png`) });
const idle = () => $("#send").waitFor({ state: "visible" });

async function check(name, run) {
  try {
    await run();
    assert.deepEqual(problems, []);
  } catch (error) {
    console.log(`FAILED ${name}: ${error.stack}`);
    problems.forEach((problem) => console.log(`console: ${problem}`));
    await shot("failed");
    await browser.close();
    process.exit(1);
  }
  console.log(`ok ${name}`);
}

// Sends with the keyboard.
async function send(text) {
  await $("#prompt").fill(text);
  await $("#prompt").press("Enter");
}

async function set(name, value) {
  if (!await $("#settings").getAttribute("open").then((open) => open !== null)) {
    await $("#settings summary").click();
  }
  if (typeof value === "boolean") await $(name).setChecked(value);
  else await $(name).fill(value);
}

// Presses Tab until an element has the focus; whoever has no mouse must be able to reach all.
async function tab(selector) {
  const steps = 60;
  for (let step = 0; step < steps; step += 1) {
    if (await $(selector).evaluate((found) => found === document.activeElement)) return;
    await page.keyboard.press("Tab");
  }
  assert.fail(`${selector} is not reached in ${steps} steps`);
}

const color = (selector, name) => $(selector).first().evaluate((found, property) =>
  getComputedStyle(found)[property].match(/[\d.]+/g).slice(0, 3).map(Number), name);

function luminance(rgb) {
  const [r, g, b] = rgb.map((part) => part / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

async function contrast(front, back) {
  const both = [luminance(front), luminance(back)].sort((a, b) => b - a);
  return (both[0] + 0.05) / (both[1] + 0.05);
}

await check("load", async () => {
  const response = await page.goto(url, { waitUntil: "load" });
  assert.equal(response.status(), 200);
  assert.match(response.headers()["content-security-policy"], /default-src 'none'/);
  await $("#model option").first().waitFor({ state: "attached" });
  assert.deepEqual(await $("#model option").allTextContents(), ["shoal-tiny", "tools"]);
  assert.equal(await turns().count(), 0);
  await shot("empty");
});

await check("stream", async () => {
  await set("#seed", "7");
  await set("#limit", "120");
  await page.evaluate(() => {
    window.seen = [];
    new MutationObserver(() => {
      const text = document.querySelector("#turns > li.assistant .text")?.textContent ?? "";
      if (text.length !== seen.at(-1)?.length) seen.push({ length: text.length, at: Date.now() });
    }).observe(document.getElementById("turns"), { childList: true, subtree: true,
      characterData: true });
  });
  await send("Once upon a time");
  await $("#stop").waitFor({ state: "visible" });
  await page.waitForFunction(() => seen.length > 3);
  await shot("streaming");
  await idle();
  const seen = await page.evaluate(() => window.seen);
  assert.ok(seen.length >= 10, `${seen.length} pieces were seen`);
  assert.ok(seen.at(-1).at > seen[1].at, "the answer came at once");
  assert.equal(await turns().count(), 2);
  assert.match(await answer().locator(".note").textContent(), /^(stop|length); \d+ tokens, /);
  await shot("answered");
});

await check("regenerate", async () => {
  // One seed, one answer: whatever was cached or batched meanwhile.
  const before = await answer().locator(".text").textContent();
  const asked = page.waitForRequest((request) => request.url().endsWith("/v1/completions"));
  await answer().getByRole("button", { name: "Regenerate" }).click();
  assert.equal((await asked).postDataJSON().seed, 7);
  await idle();
  assert.equal(await answer().locator(".text").textContent(), before);
  await set("#seed", "8");
  await answer().getByRole("button", { name: "Regenerate" }).click();
  await $("#stop").waitFor({ state: "visible" });
  await idle();
  assert.notEqual(await answer().locator(".text").textContent(), before);
  assert.equal(await turns().count(), 2);
});

await check("edit", async () => {
  await turns().first().getByRole("button", { name: "Edit" }).click();
  assert.equal(await turns().count(), 0);
  assert.equal(await $("#prompt").inputValue(), "Once upon a time");
  assert.ok(await $("#prompt").evaluate((found) => found === document.activeElement));
  await send("Once there was a cat");
  await $("#stop").waitFor({ state: "visible" });
  await idle();
  assert.equal(await turns().count(), 2);
  assert.equal(await turns().first().locator(".text").textContent(), "Once there was a cat");
});

await check("stop", async () => {
  await set("#limit", "400");
  // Clicked in the page as soon as there is text: a small model is done before anybody looks.
  const before = await turns().count();
  await page.evaluate((before) => {
    const list = document.querySelector("#turns");
    new MutationObserver((_, observer) => {
      const text = list.querySelector("li:last-child.assistant .text");
      if (list.children.length <= before || !text?.textContent.length) return;
      observer.disconnect();
      document.querySelector("#stop").click();
    }).observe(list, { childList: true, subtree: true, characterData: true });
  }, before);
  await send(" and a dog");
  await turns().nth(before + 1).waitFor({ state: "attached" });
  await idle();
  assert.equal(await answer().locator(".note").textContent(), "stopped");
  assert.notEqual(await answer().locator(".text").textContent(), "");
  // The engine has stopped too.
  await page.waitForFunction(async () => {
    const text = await (await fetch("/metrics")).text();
    return /vllm:num_requests_running\{model_name="shoal-tiny"\} 0\n/.test(text);
  });
});

await check("alternatives", async () => {
  await set("#limit", "30");
  await answer().getByRole("button", { name: "Regenerate" }).click();
  await $("#stop").waitFor({ state: "visible" });
  await idle();
  const text = await answer().locator(".text").textContent();
  await set("#tokens", true);
  const tokens = answer().locator(".token");
  assert.ok(await tokens.count() > 5);
  assert.equal((await tokens.allTextContents()).join(""), text);
  assert.equal(await answer().locator("br").count(), text.split("\n").length - 1);
  await tokens.nth(1).click();
  const rows = $("#alternatives tr");
  assert.ok(await rows.count() >= 6, "five alternatives and a head");
  const parts = await $("#alternatives td:last-child").allTextContents();
  const sum = parts.map((part) => parseFloat(part)).reduce((a, b) => a + b);
  assert.ok(sum > 1 && sum < 101, `${sum} % in all`);
  await shot("alternatives");
  await page.keyboard.press("Enter");
  await $("#alternatives").waitFor({ state: "hidden" });
  assert.ok(await tokens.nth(1).evaluate((found) => found === document.activeElement));
  await set("#tokens", false);
  assert.equal(await answer().locator(".text").textContent(), text);
});

await check("reload", async () => {
  const before = await turns().locator(".text").allTextContents();
  await page.reload();
  await $("#model option").first().waitFor({ state: "attached" });
  assert.deepEqual(await turns().locator(".text").allTextContents(), before);
  assert.ok(before.length >= 4);
});

await check("engine", async () => {
  await page.waitForFunction(() =>
    /^\d/.test(document.getElementById("hits").textContent)
    && /^\d/.test(document.getElementById("rate").textContent));
  for (const id of ["running", "waiting", "kv"]) {
    assert.match(await $(`#${id}`).textContent(), /^\d/, id);
  }
});

await check("phone", async () => {
  await page.setViewportSize(PHONE);
  for (const isOpen of [false, true]) {
    const open = await $("#settings").getAttribute("open") !== null;
    if (open !== isOpen) await $("#settings summary").click();
    const [wide, window] = await page.evaluate(() =>
      [document.documentElement.scrollWidth, innerWidth]);
    assert.ok(wide <= window, `${wide} of ${window} pixels, settings open: ${isOpen}`);
    for (const id of ["model", "prompt", "send", "clear"]) {
      const box = await $(`#${id}`).boundingBox();
      assert.ok(box.x >= 0 && box.x + box.width <= PHONE.width, id);
      assert.ok(box.y >= 0 && box.y + box.height <= PHONE.height, id);
    }
    await shot(isOpen ? "phone-settings" : "phone");
  }
  await page.setViewportSize(DESK);
});

await check("dark and light", async () => {
  const backs = [];
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    const back = await color("body", "backgroundColor");
    backs.push(luminance(back));
    // What WCAG 2 asks of text, level AA.
    assert.ok(await contrast(await color("body", "color"), back) >= 4.5, colorScheme);
    assert.ok(await contrast(await color(".note", "color"), back) >= 4.5, colorScheme);
    const mine = await color("#turns > li.user", "backgroundColor");
    assert.ok(await contrast(await color("#turns > li.user", "color"), mine) >= 4.5, colorScheme);
    const send = [await color("#send", "color"), await color("#send", "backgroundColor")];
    assert.ok(await contrast(...send) >= 4.5, colorScheme);
    await shot(colorScheme);
  }
  assert.ok(backs[0] > 0.7 && backs[1] < 0.1, backs.join());
  await page.emulateMedia({ colorScheme: null });
});

await check("keyboard", async () => {
  await page.reload();
  await $("#model option").nth(1).waitFor({ state: "attached" });
  await page.locator("body").evaluate(() => document.activeElement?.blur());
  await tab("#settings summary");
  await page.keyboard.press("Enter");
  await tab("#limit");
  await page.keyboard.press("Control+A");
  await page.keyboard.type("400");
  await tab("#clear");
  await page.keyboard.press("Enter");
  assert.equal(await turns().count(), 0);
  assert.ok(await $("#prompt").evaluate((found) => found === document.activeElement));
  await page.keyboard.type("Once");
  await page.keyboard.press("Shift+Enter");
  await page.keyboard.type("upon");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() =>
    document.querySelector("#turns > li.assistant .text")?.textContent.length > 0);
  await page.keyboard.press("Escape");
  await idle();
  assert.equal(await turns().first().locator(".text").textContent(), "Once\nupon");
  assert.equal(await answer().locator(".note").textContent(), "stopped");
  await page.locator("body").evaluate(() => document.activeElement?.blur());
  await tab("#turns > li.assistant button");
  await page.keyboard.press("Enter");
  assert.ok(await $("#stop").evaluate((found) => found === document.activeElement));
  await page.keyboard.press("Enter");
  await idle();
  assert.ok(await $("#prompt").evaluate((found) => found === document.activeElement));
});

await check("chat model", async () => {
  await $("#model").selectOption("tools");
  await $("#clear").click();
  await set("#limit", "24");
  const asked = page.waitForRequest((request) => request.url().endsWith("/v1/chat/completions"));
  await send("Hello <b>there</b>");
  assert.deepEqual((await asked).postDataJSON().messages,
    [{ role: "user", content: "Hello <b>there</b>" }]);
  await $("#stop").waitFor({ state: "visible" });
  await idle();
  assert.match(await answer().locator(".note").textContent(), /^(stop|length); \d+ tokens, /);
  // What is said is text, whatever it looks like.
  assert.equal(await $("#turns b").count(), 0);
});

await check("refusal", async () => {
  expected = /status of 400/;
  await set("#temperature", "1000");
  await send("More");
  await $("#problem").waitFor({ state: "visible" });
  assert.match(await $("#problem").textContent(), /temperature/);
  await idle();
  await shot("refusal");
  expected = null;
  await set("#temperature", "0.7");
  await turns().last().getByRole("button", { name: "Send again" }).click();
  await $("#problem").waitFor({ state: "hidden" });
  await idle();
  assert.match(await answer().locator(".note").textContent(), /^(stop|length); /);
});

await check("context", async () => {
  // An answer gets what the conversation leaves; none is left at the end.
  await $("#model").selectOption("shoal-tiny");
  await $("#clear").click();
  await set("#limit", "100000");
  await send("Once ".repeat(600));
  await $("#problem").waitFor({ state: "visible" });
  assert.match(await $("#problem").textContent(), /context holds 512/);
  await turns().last().getByRole("button", { name: "Edit" }).click();
  await send("Once upon");
  await $("#stop").waitFor({ state: "visible" });
  await idle();
  assert.match(await answer().locator(".note").textContent(), /^(stop|length); /);
});

await check("swarm", async () => {
  assert.equal(await $("#swarm").isVisible(), false, "this process computes alone");
  await page.goto(splitUrl);
  await tab("#swarm summary");
  await page.keyboard.press("Enter");
  await $("#map h2").first().waitFor({ state: "visible" });
  await $("#clear").click();
  await set("#limit", "480");
  // An answer may be over before anybody looks here: the page itself notes what it showed.
  await page.evaluate(() => {
    window.shown = new Promise((seen) => new MutationObserver(() => {
      if (!document.querySelector("#map .flows path")) return;
      const summary = document.querySelector("#swarm-summary").textContent;
      seen({ summary, way: document.querySelector("#map svg").getAttribute("aria-label") });
    }).observe(document.querySelector("#map"), { childList: true }));
  });
  await send("Once upon a time");
  const { summary, way } = await page.evaluate((limit) => Promise.race([
    window.shown,
    new Promise((_, late) => setTimeout(() => late(new Error("no flow was shown")), limit)),
  ]), WAIT_MS);
  assert.match(summary, /^3 of 3 nodes, 1 requests/);
  assert.match(way, /this node, then \w{12} with layers 0 to \d+, then \w{12} with layers \d+ to/);
  await shot("swarm");
  await idle();
  await $("#map .flows").waitFor({ state: "detached" });
  await page.setViewportSize(PHONE);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(wide <= 0, "the map scrolls, the page does not");
  await shot("swarm-phone");
  await page.setViewportSize(DESK);
  await page.goto(url);
});

await check("policy", async () => {
  expected = /Content Security Policy|Content-Security-Policy/;
  const broken = await page.evaluate(async (other) => {
    const seen = [];
    document.addEventListener("securitypolicyviolation", (event) =>
      seen.push(event.effectiveDirective));
    const script = document.createElement("script");
    script.textContent = "window.ran = true";
    document.head.append(script);
    const style = document.createElement("p");
    style.setAttribute("style", "color: red");
    document.body.append(style);
    await fetch(other).catch(() => {});
    const image = new Image();
    image.src = `${other}/image.png`;
    document.body.append(image);
    await new Promise((done) => { image.onerror = done; });
    return { seen: seen.sort(), ran: window.ran };
  }, "http://shoal.invalid");
  assert.deepEqual(broken.seen, ["connect-src", "img-src", "script-src-elem", "style-src-attr"]);
  assert.equal(broken.ran, undefined);
});

assert.deepEqual(foreign, [], "requests to other origins");
await browser.close();
console.log("ok browser");
